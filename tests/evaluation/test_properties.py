"""What holds of every metric, whatever its value: it depends on the list and the judgements, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrec as fr
from fastrec.evaluation import Accumulator
from fastrec.evaluation.metrics import parse
from fastrec.evaluation.rank_metrics import CASE_METRICS, TOPIC_METRICS

LABELS = [column.label for column in parse([*CASE_METRICS, *TOPIC_METRICS])]
Run = dict[str, dict[str, float]]
Truth = dict[str, dict[str, dict[str, int]]]


def collection(queries: int = 40, seed: int = 0, ties: bool = True) -> tuple[Run, Truth]:
    """Runs with ties and judgements by subtopic; some queries without items, and some without relevant ones."""
    rng = np.random.default_rng(seed)
    run, truth = {}, {}
    for q in range(queries):
        items = [f"d{i}" for i in rng.permutation(40)[: rng.integers(0, 30)]]
        scores = rng.integers(0, 6, len(items)) if ties else rng.permutation(len(items))
        run[f"q{q}"] = dict(zip(items, scores.astype(float).tolist()))
        truth[f"q{q}"] = {
            f"t{topic}": {f"d{i}": int(g) for i, g in zip(rng.permutation(40)[:8], rng.integers(-1, 4, 8))}
            for topic in range(3)
        }
        if q % 9 == 0:
            truth[f"q{q}"] = {"t0": {"d1": 0}}
    return run, truth


def values(run: Any, truth: Any, metrics: Any = LABELS, **arguments: Any) -> np.ndarray:
    ev = fr.evaluate(run, truth, metrics, **arguments)
    return ev.values[np.argsort(ev.query_ids.astype(str))]


@pytest.fixture(scope="module")
def one_pass() -> tuple[Run, Truth, np.ndarray]:
    run, truth = collection()
    return run, truth, values(run, truth)


def test_one_pass_equals_metric_by_metric(one_pass: tuple[Run, Truth, np.ndarray]) -> None:
    run, truth, expected = one_pass
    for m, label in enumerate(LABELS):
        np.testing.assert_array_equal(values(run, truth, [label])[:, 0], expected[:, m], err_msg=label)
    order = np.random.default_rng(1).permutation(len(LABELS))
    np.testing.assert_array_equal(values(run, truth, [LABELS[m] for m in order]), expected[:, order])


def shuffled(rng: np.random.Generator, entries: dict[str, Any]) -> dict[str, Any]:
    keys = list(entries)
    return {keys[i]: entries[keys[i]] for i in rng.permutation(len(keys))}


def test_the_order_of_the_input_does_not_matter(one_pass: tuple[Run, Truth, np.ndarray]) -> None:
    run, truth, expected = one_pass
    rng = np.random.default_rng(2)
    run = {q: shuffled(rng, items) for q, items in shuffled(rng, run).items()}
    truth = {
        q: {t: shuffled(rng, items) for t, items in shuffled(rng, topics).items()}
        for q, topics in shuffled(rng, truth).items()
    }
    np.testing.assert_allclose(values(run, truth), expected, rtol=1e-13, atol=0)


def test_a_query_does_not_depend_on_the_others(one_pass: tuple[Run, Truth, np.ndarray]) -> None:
    run, truth, expected = one_pass
    names = sorted(truth)
    for keep in (names[:1], names[5:9], names[::2]):
        got = values({q: run[q] for q in keep}, {q: truth[q] for q in keep})
        np.testing.assert_array_equal(got, expected[[names.index(q) for q in keep]])


@pytest.mark.parametrize(
    "rename", [lambda d: f"other {d}", lambda d: int(d[1:]) + 2**40], ids=["text", "integers"]
)
def test_names_do_not_matter_where_nothing_is_tied(rename: Callable[[str], Any]) -> None:
    run, truth = collection(seed=3, ties=False)
    named_run = {q: {rename(d): s for d, s in items.items()} for q, items in run.items()}
    named_truth = {
        q: {t: {rename(d): g for d, g in items.items()} for t, items in topics.items()}
        for q, topics in truth.items()
    }
    greedy = ("alpha_ndcg", "nerr_ia", "nnrbp")  # the greedy ideal settles ties by name
    labels = [label for label in LABELS if not label.startswith(greedy)]
    np.testing.assert_allclose(
        values(named_run, named_truth, labels), values(run, truth, labels), rtol=1e-13, atol=0
    )


def test_scores_matter_by_their_order_only() -> None:
    run, truth = collection(seed=4)
    moved = {q: {d: 3.0 * s - 100.0 for d, s in items.items()} for q, items in run.items()}
    np.testing.assert_array_equal(values(moved, truth), values(run, truth))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_and_batches_do_not_matter(threads: int) -> None:
    run, truth = collection(queries=300, seed=5)
    whole = fr.evaluate(run, truth, LABELS, threads=1)
    np.testing.assert_array_equal(fr.evaluate(run, truth, LABELS, threads=threads).values, whole.values)

    def part(names: list[str]) -> Accumulator:
        return Accumulator(LABELS, threads=threads).update(
            {q: run[q] for q in names}, {q: truth[q] for q in names}
        )

    names = list(truth)
    cuts = [names[:1], names[1:130], names[130:]]
    left = part(cuts[0]).merge(part(cuts[1])).merge(part(cuts[2])).result()
    right = part(cuts[0]).merge(part(cuts[1]).merge(part(cuts[2]))).result()
    for joined in (left, right):
        np.testing.assert_array_equal(joined.values, whole.values)
        assert (joined.mean.fillna(-1) == whole.mean.fillna(-1)).all()
        assert joined.counts == whole.counts
