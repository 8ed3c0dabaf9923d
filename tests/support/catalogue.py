"""Lists of a small catalogue, with all that can be known about its items and users."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

N_ITEMS, N_USERS = 60, 25


def problem(ragged: bool, seed: int = 0):
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((N_USERS, N_ITEMS)), axis=1)[:, :8]
    if ragged:
        ids[rng.random(ids.shape) < 0.3] = -1
        ids[3] = -1
        ids[4, 1:] = -1
    history = sp.csr_array(rng.random((N_USERS, N_ITEMS)) < 0.15)
    truth = sp.csr_array(rng.random((N_USERS, N_ITEMS)) < 0.3)
    return {
        "top": np.ascontiguousarray(ids),
        "n_items": N_ITEMS,
        "vectors": rng.standard_normal((N_ITEMS, 7)),
        "categories": rng.random((N_ITEMS, 4)) < 0.4,
        "history": history,
        "truth": truth,
        "baseline": np.arange(8),
        "item_groups": rng.integers(0, 3, N_ITEMS),
    }
