"""Run the benchmark once on every instruction set that this machine can run, and put the results side by side.

    python bench/instruction_sets.py --out results/ [--only rank] [--full] [--peers none]

Writes one JSON file of `fastrec bench` for each set and prints, case by case, fastrec's median on each and the best
peer's time (measured beside the best set).  Each set runs in a process of its own: the choice is made at import.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from fastrec._core import isa
from fastrec.benchmarks.record import ratio_text, seconds_text

RUN = "import typer; from fastrec.benchmarks.command import bench; typer.run(bench)"


def measure(name: str, out: Path, options: list[str], peers: str) -> dict:
    path = out / f"{name}.json"
    command = [sys.executable, "-c", RUN, "--json", str(path), "--peers", peers, *options]
    done = subprocess.run(command, env={**os.environ, "FASTREC_ISA": name}, check=False)
    if done.returncode:
        sys.exit(f"the run on {name} ended with status {done.returncode}")
    return json.loads(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--only", default="rank")
    parser.add_argument("--peers", default="auto", help="for the best instruction set; the others run alone")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true")
    size.add_argument("--full", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    passed = ["--only", options.only, *(f"--{name}" for name in ("quick", "full") if getattr(options, name))]

    names = isa.usable()[::-1]
    runs = {
        name: measure(name, options.out, passed, options.peers if name == names[0] else "none")
        for name in names
    }
    print(f"{'case':<28}", *(f"{name:>12}" for name in names), f"{'best peer':>12}")
    for at, case in enumerate(runs[names[0]]["cases"]):
        ours = [
            next((t["median_s"] for t in run["cases"][at]["contenders"] if t["peer"] == "fastrec"), None)
            for run in runs.values()
        ]
        best = next((t for t in case["contenders"] if t["name"] == case["best_peer"]), None)
        peer = (
            f"{seconds_text(best['median_s'])} ({best['name']}, {ratio_text(case['ratio_to_best_peer'])})"
            if best
            else "-"
        )
        print(f"{case['name']:<28}", *(f"{seconds_text(seconds):>12}" for seconds in ours), "  " + peer)


if __name__ == "__main__":
    main()
