"""Peers on a card, each in a process of its own.

cuVS, faiss and implicit bring libraries of CUDA of their own, and one that fails may end its process without a word.
Therefore `compare` lets this program measure each of them in a child, by the same command: inputs are drawn from the
same seed, our times there are left out, and a child that dies is one line of the report, which says where.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastrec._core import checks
from fastrec.benchmarks import card
from fastrec.benchmarks.harness import OURS
from fastrec.benchmarks.peers import package_version

_TELLING = ("-X", "faulthandler")  # options of a Python that says where a fault ends it
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


def shared_out(wanted: str) -> tuple[tuple[str, ...], list[str]]:
    """Peers that are measured here, and those in a child each, of the option ``--peers``.

    ``"auto"``: torch here, what else is installed apart.  One name alone: here, which is how a child is called.
    """
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if names == ["none"]:
        return (), []
    if names == ["auto"]:
        return ("torch",), [name for name in card.PEERS[1:] if _installed(name)]
    for name in names:
        checks.choice(name, "peers", card.PEERS)
    if len(names) == 1:
        return (names[0],), []
    return tuple(name for name in names if name == "torch"), [name for name in names if name != "torch"]


def _installed(name: str) -> bool:
    """Whether a peer can be found, without importing it; the CPU's faiss is none."""
    if name == "faiss" and package_version("faiss-cpu") is not None:
        return False
    return importlib.util.find_spec(name) is not None


def compare(
    names: list[str], scale: str, seed: int, rounds: int, say: Callable[[str], None], peers: str
) -> dict[str, Any]:
    """`card.measure`, with each peer's rows behind those of the same case."""
    here, apart = shared_out(peers)
    result = card.measure(names, scale, seed, rounds, say, here)
    cases = [name for name in card.chosen(names) if name in card.WITH_PEERS]
    for peer in apart if cases else ():
        say(f"{peer}, in a process of its own")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "rows.json")
            size = [] if scale == "default" else [f"--{scale}"]
            options = ["--seed", str(seed), "--peers", peer, "--json", str(file), *size, *cases]
            command = [sys.executable, *_TELLING, "-m", "fastrec", "bench", "--device", "cuda", *options]
            done = subprocess.run(command, capture_output=True, text=True)
            if not file.is_file():
                result["skipped"][peer] = _end(done)
                continue
            theirs = json.loads(file.read_text())["rows"]
        found = [row for row in theirs if not row["contender"].startswith(OURS)]
        order = {name: place for place, name in enumerate(card.CASES)}
        result["rows"] = sorted(result["rows"] + found, key=lambda row: order[row["case"]])
    return result


def _end(done: subprocess.CompletedProcess[str]) -> str:
    """What a child that left no rows ended with: where in this package a fault hit it, else the last line it wrote."""
    told = f"its process ended with status {done.returncode}"
    fault, _, after = done.stderr.partition("Fatal Python error: ")[2].partition("\n")
    # Innermost first.  Threads are apart by empty lines; what is below the frames names modules.
    frames = _FRAME.findall(after.partition("Current thread")[2].partition("\n\n")[0])
    if frames:
        package = Path(card.__file__).parents[1]
        ours = [frame for frame in frames if package in Path(frame[0]).parents]
        file, line, function = (ours or frames)[0]
        return f"{told}: {fault} in {function}, {Path(file).name} line {line}"
    return ": ".join([told, *(done.stderr or done.stdout).strip().splitlines()[-1:]])
