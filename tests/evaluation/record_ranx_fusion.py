"""Record what ranx makes of three small runs: ``python tests/evaluation/record_ranx_fusion.py``.

ranx compiles each of its methods when it is first used, for half a minute and more, so the tests compare with these
recorded outputs.  Written with ranx 0.3.21.
"""

import json
from pathlib import Path

import numpy as np
import ranx

FILE = Path(__file__).with_name("ranx_fusion.json")
# fastrec's name -> ranx's
METHODS = {"rrf": "rrf", "isr": "isr", "log_isr": "log_isr", "logn_isr": "logn_isr", "borda": "bordafuse"} | {
    f"comb{name}": name for name in ("sum", "mnz", "gmnz", "anz", "max", "min", "med")
}
METHODS |= {"rbc": "rbc"}
PARAMETERS = {"rbc": {"phi": 0.8}, "combgmnz": {"gamma": 2.0}}  # fastrec's defaults; ranx has none
NORMS = {
    "min_max": "min-max", "max": "max", "sum": "sum", "z_score": "zmuv", "rank": "rank", "borda": "borda",
}  # fmt: skip
CASES = (
    [(method, "min_max") for method in METHODS]
    + [("combsum", norm) for norm in NORMS]
    + [("combmnz", "z_score")]
)


def make_runs():
    """Three runs of four queries with distinct positive scores (ranx's max norm divides by 1e-9 otherwise)."""
    rng = np.random.default_rng(0)
    return [
        {
            f"q{q}": {
                f"d{i:02}": round(float(rng.random() * 10), 6) for i in rng.choice(20, 9, replace=False)
            }
            for q in range(4)
        }
        for _ in range(3)
    ]


def main():
    runs = make_runs()
    cases = []
    for method, norm in CASES:
        fused = ranx.fuse(
            [ranx.Run(run) for run in runs],
            norm=NORMS[norm],
            method=METHODS[method],
            params=PARAMETERS.get(method),
        )
        cases.append({"method": method, "norm": norm, "fused": fused.to_dict()})
        print(method, norm, flush=True)  # noqa: T201
    FILE.write_text(json.dumps({"runs": runs, "cases": cases}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
