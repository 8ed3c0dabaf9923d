"""Examples run as they are printed, and the guide names every metric."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import fastrec.evaluation
from fastrec.evaluation import catalog_metrics, click_metrics, conventions, metrics

GUIDE = Path(__file__).parents[2] / "docs" / "measuring.md"
MODULES = [
    module.name for module in pkgutil.walk_packages(fastrec.evaluation.__path__, "fastrec.evaluation.")
]


@pytest.fixture(autouse=True)
def only_built_in_metrics_stay() -> Iterator[None]:
    """Examples register metrics of their own."""
    before = [(known, dict(known)) for known in (metrics.REGISTRY, metrics._BY_KEY)]
    yield
    for known, was in before:
        known.clear()
        known.update(was)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_give_what_they_print(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_guide_runs() -> None:
    shared: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), shared)
    assert shared["ev"]["recall@1"] == pytest.approx(1 / 9)


def test_the_guide_tells_how_presets_differ() -> None:
    lines = [
        line.strip("| ").split(" | ")
        for line in GUIDE.read_text(encoding="utf-8").splitlines()
        if "|" in line
    ]
    start = next(row for row, cells in enumerate(lines) if cells == list(conventions.PRESETS))
    told = {
        cells[0].strip("`"): cells[1:]
        for cells in lines[start + 2 :]
        if len(cells) > len(conventions.PRESETS)
    }
    choices = {
        field.name: [str(getattr(preset, field.name)) for preset in conventions.PRESETS.values()]
        for field in fields(conventions.Convention)
        if field.name != "name"
    }
    assert told == {name: values for name, values in choices.items() if len(set(values)) > 1}


def test_the_guide_names_every_metric_and_policy() -> None:
    named = set(re.findall(r"`([\w]+)(?:\([^`]*\))?(?:@k)?`", GUIDE.read_text(encoding="utf-8")))
    built_in = {name for name, metric in metrics.REGISTRY.items() if metric.function is None}
    assert built_in | set(click_metrics.METRICS) | set(catalog_metrics.METRICS) <= named
    assert set(conventions.CHOICES) - {"score_precision"} <= named
    text = GUIDE.read_text(encoding="utf-8")
    assert all(f'"{preset}"' in text for preset in conventions.PRESETS)
