"""``tools/card_sample.py``, what compute-sanitizer looks at on a card, without one."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import cuda_host
import fake_cupy
import pytest

from fastrec._core import cuda
from fastrec.evaluation import on_device
from fastrec.ranking import device_index

TOOL = Path(__file__).parents[2] / "tools" / "card_sample.py"
pytestmark = pytest.mark.skipif(
    cuda_host.COMPILER is None or sys.platform != "linux" or not TOOL.exists(),
    reason="the host emulator of CUDA needs g++ and Linux, and the sample the checkout",
)


@pytest.mark.slow
def test_it_launches_every_kernel_in_every_variant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cupy = fake_cupy.install(monkeypatch, tmp_path)
    on_device._constant.cache_clear()
    monkeypatch.setattr(device_index, "SMALL", 250)
    for name in ("_FIRST", "_FIRST_OF_FEW", "_SEEDS", "SEEDED", "ALONE"):  # the last two it sets itself
        monkeypatch.setattr(device_index, name, 64 if name != "_SEEDS" else 1)
    used: set[tuple[str, str, tuple[str, ...]]] = set()
    call = cuda.Kernel.__call__

    def recorded(self: cuda.Kernel, *args: Any, **kwargs: Any) -> None:
        used.add((self.file, self.name, self.options[len(cuda.OPTIONS) :]))
        call(self, *args, **kwargs)

    monkeypatch.setattr(cuda.Kernel, "__call__", recorded)
    spec = importlib.util.spec_from_file_location("card_sample", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with warnings.catch_warnings():
        module.main(rows=300)
    assert capsys.readouterr().out == "done\n"
    assert cupy.launches()
    every = {
        (file, name, tuple(f"-D{macro}={value}" for macro, value in sorted(variant.items())))
        for file in cuda.names()
        for name in re.findall(r"__global__[^;{]*?\b(fr_\w+)\(", cuda.source(file))
        for variant in cuda.variants(file)
    }
    assert used <= every
    assert {one for one in every if is_launched(*one[1:])} == used


def is_launched(name: str, defines: tuple[str, ...]) -> bool:
    """Whether any call launches a kernel in this variant; items of bfloat16 that are packed there come from torch."""
    return not (
        (name == "fr_sift" and defines != ("-DFR_HALF=0", "-DFR_TILES=8"))
        or (name in ("fr_prepare", "fr_rescore", "fr_offer_special") and "-DFR_BLOCK=512" in defines)
        or (name == "fr_logistic_map" and "-DFR_WIDE=1" in defines)
        or (name in ("fr_norms", "fr_score_pairs") and "-DFR_ITEM=2" in defines)
    )
