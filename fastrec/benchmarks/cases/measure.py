"""Measure: ranking metrics of many lists in one pass, and metrics of click probabilities from one sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks import inputs, references
from fastrec.benchmarks.cases import case
from fastrec.benchmarks.harness import OURS, Case, Contender, Finding, Lab, Verdict, Work
from fastrec.benchmarks.references import METRICS

TREC_NAMES = {
    "ndcg@10": "ndcg_cut.10",
    "ndcg@100": "ndcg_cut.100",
    "recall@20": "recall.20",
    "precision@10": "P.10",
    "map": "map",
    "mrr": "recip_rank",
    "hit_rate@10": "success.10",
    "r_precision": "Rprec",
}


@case("measure/lists", "measure", "eight metrics of many ranked lists of 100, binary judgements")
def lists(lab: Lab) -> Case:
    queries, catalogue, k = lab.size(1000, 5000, 20_000), 20_000, 100
    rng = lab.rng("lists")
    ids = np.argsort(rng.random((queries, 4 * k)), axis=1)[:, :k] + rng.integers(
        0, catalogue - 4 * k, (queries, 1)
    )
    wanted = []
    for row in ids:
        found = rng.choice(row, rng.integers(0, 12), replace=False)
        wanted.append(np.union1d(found, rng.choice(catalogue, rng.integers(1, 12), replace=False)))
    return _lists_case(lab, ids, wanted)


@case(
    "measure/purchases", "measure", "eight metrics of the recommendations for every household", real_data=True
)
def purchases(lab: Lab) -> Case:
    shop = inputs.purchases(lab)
    ids = shop.recommended(lab).ids
    popular = shop.popular(lab).ids
    later = [shop.later.indices[a:b] for a, b in zip(shop.later.indptr, shop.later.indptr[1:])]

    def findings(answer: dict[str, np.ndarray]) -> list[Finding]:
        baseline = _evaluate(lab, popular, fr.Truth(shop.later))
        verdict = _per_query(
            references.rank_metrics(popular.tolist(), [set(items.tolist()) for items in later])
        )(baseline)
        if not verdict.agrees:
            raise ValueError(f"the metrics of the popular products: {verdict.text}")
        ours, theirs = (
            {name: float(values[name].mean()) for name in METRICS} for values in (answer, baseline)
        )
        better = sum(ours[name] > theirs[name] for name in METRICS)
        return [
            Finding(
                f"New products that {shop.later.shape[0]:,} households bought in {shop.test_weeks}, foretold from "
                f"{shop.train_weeks}",
                ["", *METRICS],
                [
                    [f"factors (SVD, d={shop.users.shape[1]})", *ours.values()],
                    ["most popular products", *theirs.values()],
                ],
                f"Seen products are excluded from both. The factors are better than popularity on {better} of "
                f"{len(METRICS)} metrics.",
            )
        ]

    made = _lists_case(lab, ids, later)
    made.findings = findings
    return made


@case("measure/clicks", "measure", "AUC and log-loss of many click probabilities")
def clicks(lab: Lab) -> Case:
    n = lab.size(200_000, 1_000_000, 5_000_000)
    rng = lab.rng("clicks")
    p = rng.beta(1.0, 20.0, n).astype(np.float32).clip(1e-6, 1 - 1e-6).astype(np.float64)
    y = (rng.random(n) < p).astype(np.int64)
    expected = {"auc": references.auc(y, p), "logloss": references.logloss(y, p)}

    def ours() -> dict[str, float]:
        found = fr.evaluate_clicks(y, p, metrics=["auc", "logloss"], threads=lab.threads)
        return {name: found[name] for name in expected}

    contenders = [Contender(OURS, ours, references.numbers_agree(expected, 1e-12))]
    if lab.peer("sklearn"):
        from sklearn.metrics import log_loss, roc_auc_score

        contenders.append(
            Contender(
                "sklearn roc_auc_score, log_loss",
                lambda: {"auc": roc_auc_score(y, p), "logloss": log_loss(y, p)},
                references.numbers_agree(expected, 1e-9),
                "sklearn",
            )
        )
    if torch := lab.peer("torch"):
        scores, labels = torch.from_numpy(p), torch.from_numpy(y)
        contenders.append(
            Contender(
                "torch sort + cumsum",
                lambda: _torch_auc(torch, labels, scores),
                references.numbers_agree(expected, 1e-9),
                "torch",
            )
        )
    return Case({"rows": n}, Work(bytes=float(y.nbytes + p.nbytes), count=float(n), unit="rows"), contenders)


def _torch_auc(torch: Any, y: Any, p: Any) -> dict[str, float]:
    """The area under the curve through the distinct thresholds, as torchmetrics computes it."""
    ordered, at = torch.sort(p, descending=True)
    hits = torch.cumsum(y[at], 0)
    last = torch.cat([torch.nonzero(ordered[1:] != ordered[:-1])[:, 0], torch.tensor([len(p) - 1])])
    true = torch.cat([torch.zeros(1, dtype=torch.float64), hits[last].double()])
    false = torch.cat([torch.zeros(1, dtype=torch.float64), (last + 1 - hits[last]).double()])
    area = torch.trapezoid(true, false) / (true[-1] * false[-1])
    loss = torch.nn.functional.binary_cross_entropy(p, y.double())
    return {"auc": float(area), "logloss": float(loss)}


# ------------------------------------------------------------------------------------------------- ranking metrics


def _lists_case(lab: Lab, ids: np.ndarray, wanted: list[np.ndarray]) -> Case:
    """Metrics of these lists against these relevant items, read beforehand by everybody, beside ranx and trec_eval."""
    judged = [(row, set(items.tolist())) for row, items in enumerate(wanted) if len(items)]
    expected = references.rank_metrics(
        [ids[row].tolist() for row, _ in judged], [items for _, items in judged]
    )
    check = _per_query(expected)
    truth = fr.Truth([np.asarray(items, np.int64) for items in wanted])
    contenders = [
        Contender(OURS, lambda: _evaluate(lab, ids, truth), check),
    ]
    means = references.numbers_agree({name: float(values.mean()) for name, values in expected.items()}, 1e-9)
    if ranx := lab.peer("ranx"):
        contenders.append(Contender("ranx", _ranx(ranx, ids, judged), means, "ranx"))
    if pytrec_eval := lab.peer("pytrec_eval"):
        contenders.append(
            Contender("pytrec_eval", *_pytrec_eval(pytrec_eval, ids, judged, check), "pytrec_eval")
        )
    listed = float(ids.shape[0] * ids.shape[1])
    return Case(
        {"queries": len(ids), "listed": ids.shape[1], "metrics": len(METRICS)},
        Work(bytes=8.0 * (listed + sum(map(len, wanted))), count=listed, unit="items"),
        contenders,
    )


def _evaluate(lab: Lab, ids: np.ndarray, truth: Any) -> dict[str, np.ndarray]:
    """Every metric of every query that has a relevant item."""
    found = fr.evaluate(ids, truth, list(METRICS), threads=lab.threads)
    return dict(zip(METRICS, found.values.T))


def _per_query(expected: dict[str, np.ndarray]) -> Callable[[dict[str, np.ndarray]], Verdict]:
    """Every value of every query within 1e-12 of the reference."""

    def check(answer: dict[str, np.ndarray]) -> Verdict:
        for name, values in expected.items():
            got = np.asarray(answer[name], np.float64)
            if got.shape != values.shape:
                return Verdict(False, f"{name} has {got.shape} values, not {values.shape}")
            error = np.abs(got - values).max(initial=0.0)
            if not error <= 1e-12:
                return Verdict(False, f"{name} differs by {error:.1e} on some query")
        return Verdict(True, "every query within 1e-12")

    return check


def _ranx(ranx: Any, ids: np.ndarray, judged: list[tuple[int, set[int]]]) -> Callable[[], dict[str, float]]:
    names = {name: name.replace("r_precision", "r-precision") for name in METRICS}
    qrels = ranx.Qrels({str(row): {str(item): 1 for item in items} for row, items in judged})
    run = ranx.Run(_scored(ids, judged))

    def evaluate() -> dict[str, float]:
        found = ranx.evaluate(qrels, run, list(names.values()), make_comparable=False)
        return {name: float(found[theirs]) for name, theirs in names.items()}

    return evaluate


def _pytrec_eval(
    pytrec_eval: Any, ids: np.ndarray, judged: list[tuple[int, set[int]]], check: Any
) -> tuple[Any, Any]:
    qrels = {str(row): {str(item): 1 for item in items} for row, items in judged}
    run = _scored(ids, judged)
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, set(TREC_NAMES.values()))

    def compare(answer: dict[str, dict[str, float]]) -> Verdict:
        columns = {name: theirs.replace(".", "_") for name, theirs in TREC_NAMES.items()}
        return check(
            {
                name: np.array([answer[str(row)][theirs] for row, _ in judged])
                for name, theirs in columns.items()
            }
        )

    return lambda: evaluator.evaluate(run), compare


def _scored(ids: np.ndarray, judged: list[tuple[int, set[int]]]) -> dict[str, dict[str, float]]:
    """Dicts with falling scores, as the peers read a ranked list."""
    falling = [float(ids.shape[1] - place) for place in range(ids.shape[1])]
    return {
        str(row): {str(item): score for item, score in zip(ids[row].tolist(), falling) if item >= 0}
        for row, _ in judged
    }
