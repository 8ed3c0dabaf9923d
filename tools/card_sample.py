"""Small work of every kernel on a card, each in every variant, for compute-sanitizer: see ``tools/check_card.sh``."""

from __future__ import annotations

import warnings
from typing import Any

import cupy as cp
import numpy as np
from cupyx.scipy.sparse import csr_matrix
from scipy import sparse

import fastrec as fr
from fastrec._core import cuda
from fastrec.evaluation.resample import bootstrap_sums, sign_flip_sums
from fastrec.ranking import device_index
from fastrec.ranking.index import BFLOAT16

QUERIES = 40
COUNTS = (
    1,
    9,
    20,
    36,
    QUERIES,
)  # 1, 2, 4 and 8 tiles of queries a block; then more than learn thresholds from seeds


def rank(rng: np.random.Generator, rows: int) -> None:
    items, queries = (rng.standard_normal((n, 64), np.float32) for n in (rows, QUERIES))
    loose = np.where(items > 0, np.float32(0.37), np.float32(-0.37))
    loose[:, 0] = 100  # codes of eight bits say nothing of the others
    items[7, 0] = loose[8, 1] = np.inf  # special
    there, third = cp.asarray(queries), rows // 3
    seen = np.sort(rng.integers(0, third, (QUERIES, 3)) + np.arange(3) * third, axis=1)
    some = cp.asarray(np.arange(0, rows, 50))

    def search(index: fr.Index, *counts: int, kind: Any = np.int32) -> None:
        for count in counts:
            exclude = cp.arange(count + 1) * 3, cp.asarray(seen[:count].ravel().astype(kind))
            index.topk(there[:count], 10, exclude=exclude)
        index.topk(there[:3], 10, candidates=some)

    def capture(index: fr.Index, kind: Any) -> None:
        exclude = cp.arange(QUERIES + 1) * 3, cp.asarray(seen.ravel().astype(kind))
        out = cp.empty((QUERIES, 10), np.int64), cp.empty((QUERIES, 10), np.float32)
        cuda.settle()
        with cp.cuda.Stream(non_blocking=True) as stream:
            index.topk(there, 10, exclude=exclude, out=out)
            stream.begin_capture()
            index.topk(there, 10, exclude=exclude, out=out)
            stream.end_capture().launch(stream)
            stream.synchronize()

    bits = (loose.view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16)
    for packed, kind in ((items, np.int32), (loose, np.int64)):
        index = fr.Index(cp.asarray(packed))
        search(index, *COUNTS)
        capture(index, kind)
    for given in (cp.asarray(loose.astype(np.float16)), bits):
        index = fr.Index(given)
        search(index if index._device != "cpu" else index.to("cuda"), 1, QUERIES, kind=np.int64)
    search(fr.Index(cp.asarray(items.astype(np.float16)), precision="float32"), 1, QUERIES)
    search(fr.Index(bits, precision="float32").to("cuda"), 1, QUERIES)
    search(fr.Index(cp.asarray(items), "l2", cp.asarray(items[:, 1]), precision="float32"), 1, QUERIES)
    search(device_index.moved(fr.Index(items), "cuda", stream=True), QUERIES)
    for given in (cp.asarray(items[:200]), cp.asarray(items[:200].astype(np.float16)), bits[:200]):
        index = fr.Index(given)
        (index if index._device != "cpu" else index.to("cuda")).topk(there, 10)  # so few are all scored
        if index._device != "cpu":
            fr.score(there[:3], given)
    fr.select_topk(cp.asarray(rng.standard_normal((3, rows), np.float32)), 100)


def measure(rng: np.random.Generator) -> None:
    ids = np.argsort(rng.random((QUERIES, 90)), axis=1)[:, :20]
    scores = cp.asarray(-np.sort(-rng.integers(0, 9, ids.shape), axis=1).astype(np.float32))
    judged = cp.asarray(np.argsort(rng.random((QUERIES, 90)), axis=1)[:, :7])
    run, truth = cp.asarray(ids), fr.Truth(judged)
    for metrics in (["ndcg@10", "map", "recall@5"], ["err(max_gain=4)@10", "rbp(p=0.8)", "auc"]):
        fr.evaluate(run, truth, metrics)
        fr.evaluate(fr.TopK(run, scores), truth, metrics)
    topics = {q: {s: {int(i): 1 for i in rng.choice(90, 3)} for s in range(4)} for q in range(QUERIES)}
    fr.evaluate(run, fr.Truth(topics).to("cuda"), ["alpha_ndcg@10", "err_ia@10"])
    fr.evaluate_catalog(run, n_items=90, vectors=rng.standard_normal((90, 8)), metrics=["gini", "ild"])
    rows = 9000
    y, p = cp.asarray(rng.integers(0, 2, rows)), rng.random(rows)
    groups, weights = cp.asarray(rng.integers(0, 50, rows)), cp.asarray(rng.random(rows))
    metrics = ["auc", "gauc", "logloss", "ece", "ks", "field_ece", "pauc", "lift"]
    for scored in (p, p.astype(np.float32)):
        fr.evaluate_clicks(y, cp.asarray(scored), groups, metrics=metrics)
        fr.evaluate_clicks(y, cp.asarray(scored), groups, weights, metrics=metrics)
    fr.evaluate_clicks(weights, cp.asarray(p), groups, weights, metrics=["logloss", "xauc"])
    values = cp.asarray(rng.random((300, 3)))
    bootstrap_sums(values, 20)
    sign_flip_sums(values, 20)


def learn(rng: np.random.Generator) -> None:
    for dtype in (np.float32, np.float64):
        X = rng.standard_normal((2000, 9)).astype(dtype)
        y, holed = cp.asarray(rng.integers(0, 2, len(X))), sparse.csr_matrix(np.where(X > 0.5, X, 0))
        for samples in (cp.asarray(X), csr_matrix(holed)):
            for solver in ("adam", "lbfgs"):
                model = fr.models.LogisticRegression(epochs=1, max_iter=2, solver=solver).fit(samples, y)
            fr.select(fr.importance(model, samples, y), 0.1, y=y)


def main(rows: int = 8000) -> None:
    warnings.simplefilter("ignore")  # a model that has not converged is as good a sample
    rng = np.random.default_rng(0)
    device_index._FIRST_OF_FEW = 1024  # or a catalogue this small would give no seeds,
    device_index.SMALL = min(device_index.SMALL, 4096)  # and be scored canonically,
    device_index.SEEDED = device_index.ALONE = 36  # and so few queries would never take rounds
    rank(rng, rows)
    measure(rng)
    learn(rng)
    cp.cuda.runtime.deviceSynchronize()
    print("done")


if __name__ == "__main__":
    main()
