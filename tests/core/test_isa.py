"""``_core.isa``: one table of kernels is chosen at import, and the environment can only lower the choice."""

from __future__ import annotations

import pytest
from subprocesses import USABLE_ISAS, output_of, run_python

from fastrec._core import isa
from fastrec._kernels import evaluation, learning, ranking, roofs

LEVELS = """
    from fastrec._core import isa
    from fastrec._kernels import evaluation, learning, ranking, roofs
    print(isa.ACTIVE, isa.LEVEL, *(m.level() for m in (evaluation, learning, ranking, roofs)))
"""


def levels(name: str) -> list[str]:
    """What ``LEVELS`` prints: areas that gain nothing from AMX run their VNNI table there."""
    level = isa.NAMES.index(name)
    lower = min(level, isa.NAMES.index("avx512vnni"))
    return [name, *map(str, (level, lower, lower, level, level))]


def test_the_best_usable_set_is_the_default() -> None:
    best = USABLE_ISAS[-1]
    assert output_of(LEVELS, FASTREC_ISA=None).split() == levels(best)
    assert output_of(LEVELS, FASTREC_ISA="").split() == levels(best)


@pytest.mark.parametrize("name", USABLE_ISAS)
def test_each_usable_set_can_be_forced(name: str) -> None:
    assert output_of(LEVELS, FASTREC_ISA=name).split() == levels(name)


def test_every_extension_agrees_in_this_process() -> None:
    found = [isa.LEVEL, *(m.level() for m in (evaluation, learning, ranking, roofs))]
    assert [isa.ACTIVE, *map(str, found)] == levels(isa.ACTIVE)


def test_baseline_is_always_there() -> None:
    assert isa.built()[0] == "baseline"
    assert isa.usable()[0] == "baseline"
    assert set(isa.usable()) <= set(isa.built()) <= set(isa.NAMES)


def test_an_unknown_name_is_refused_with_the_list() -> None:
    done = run_python("import fastrec", FASTREC_ISA="avx1024")
    assert done.returncode != 0
    assert "FASTREC_ISA='avx1024' is not known" in done.stderr
    assert f"can run: {', '.join(USABLE_ISAS)}" in done.stderr


@pytest.mark.parametrize(("machine", "mask"), [(0, 0b11111), (1, 0b11111), (4, 0b0011)])
def test_a_name_above_the_machine_or_the_build_is_refused(
    machine: int, mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isa.runtime, "isa_machine", lambda: machine)
    monkeypatch.setattr(isa.runtime, "isa_built", lambda: mask)
    allowed = [name for level, name in enumerate(isa.NAMES) if level <= machine and mask >> level & 1]
    assert isa.usable() == allowed
    assert isa._choose(None) == allowed[-1]
    with pytest.raises(
        ValueError, match=f"'avx512vnni' cannot be run here; .* can run: {', '.join(allowed)}. Unset it"
    ):
        isa._choose("avx512vnni")
