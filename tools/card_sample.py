"""Small work of every kernel on a card, for compute-sanitizer: see ``tools/check_card.sh``."""

from __future__ import annotations

import cupy as cp
import numpy as np

import fastrec as fr
from fastrec.evaluation.resample import bootstrap_sums


def main(rows: int = 20_000) -> None:
    rng = np.random.default_rng(0)
    items, queries = (rng.standard_normal((n, 64), np.float32) for n in (rows, 70))
    seen = np.sort(rng.integers(0, rows // 3, (70, 3)) + np.arange(3) * (rows // 3), axis=1)
    for precision in ("int8", "float32"):
        index = fr.Index(cp.asarray(items), precision=precision)
        for count in (1, 20, 70):
            exclude = cp.arange(count + 1) * 3, cp.asarray(seen[:count].ravel())
            index.topk(cp.asarray(queries[:count]), 10, exclude=exclude)
    fr.select_topk(cp.asarray(rng.standard_normal((9, 30_000), np.float32)), 100)
    ids = cp.asarray(np.argsort(rng.random((40, 90)), axis=1)[:, :20])
    truth = fr.Truth(cp.asarray(np.argsort(rng.random((40, 90)), axis=1)[:, :7]))
    fr.evaluate(ids, truth, ["ndcg@10", "map", "recall@5"])
    p, y, w = rng.random(9000, np.float32), rng.integers(0, 2, 9000), rng.random(9000)
    clicks = [cp.asarray(a) for a in (y, p, rng.integers(0, 50, 9000), w)]
    metrics = ["auc", "gauc", "logloss", "ece", "ks", "field_ece"]
    fr.evaluate_clicks(*clicks[:3], metrics=metrics)
    fr.evaluate_clicks(*clicks, metrics=metrics)
    bootstrap_sums(cp.asarray(rng.random((300, 3))), 20)
    samples = cp.asarray(np.ascontiguousarray(items[:2000, :9]))
    labels = cp.asarray(rng.integers(0, 2, len(samples)))
    model = fr.models.LogisticRegression(epochs=1).fit(samples, labels)
    fr.select(fr.importance(model, samples, labels), 0.1, y=labels)
    cp.cuda.runtime.deviceSynchronize()
    print("done")


if __name__ == "__main__":
    main()
