"""Catalogue metrics against their definitions, spelt out list by list and pair by pair."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from catalogue import N_ITEMS, N_USERS, problem
from subprocesses import USABLE_ISAS, output_of

import fastrec as fr
from fastrec.evaluation.catalog_counts import catalog_counts
from fastrec.evaluation.catalog_metrics import METRICS
from fastrec.evaluation.list_similarity import list_similarity

SAME = {"rtol": 1e-12, "atol": 1e-12}


def lists_of(ids, k):
    return [[int(i) for i in row[:k] if i >= 0] for row in ids]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def mean(values):
    values = [v for v in values if not math.isnan(v)]
    return sum(values) / len(values) if values else math.nan


def expected(p, k):
    """Every metric as its definition reads."""
    ids = p["top"][:, :k]
    lists = lists_of(p["top"], k)
    full = [x for x in lists if x]
    counts = np.bincount([i for x in lists for i in x], minlength=N_ITEMS)
    exposure = np.zeros(N_ITEMS)
    for row in ids:
        for rank, item in enumerate(row, 1):
            if item >= 0:
                exposure[item] += 1 / math.log2(rank + 1)
    popularity = np.asarray(p["history"].sum(axis=0)).ravel().astype(float)
    known = np.maximum(popularity, 1)
    history = [p["history"].indices[a:b] for a, b in itertools.pairwise(p["history"].indptr)]
    truth = [set(p["truth"].indices[a:b].tolist()) for a, b in itertools.pairwise(p["truth"].indptr)]
    categories, groups = p["categories"], p["item_groups"]

    def gini(x):
        return float(np.abs(x[:, None] - x[None, :]).sum() / (2 * len(x) * x.sum()))

    def over_lists(f):
        return mean([mean([f(i) for i in x]) for x in full])

    def over_pairs(f):
        return mean([mean([f(i, j) for i, j in itertools.combinations(x, 2)]) for x in lists if len(x) > 1])

    def jaccard(i, j):
        union = (categories[i] | categories[j]).sum()
        return (categories[i] & categories[j]).sum() / union if union else 0.0

    order = sorted(range(N_ITEMS), key=lambda i: (-popularity[i], i))
    head, mass = set(), 0.0
    for item in order:
        if mass >= 0.8 * popularity.sum():
            break
        head.add(item)
        mass += popularity[item]
    ranks = {c: r for r, c in enumerate(sorted(set(popularity[popularity > 0]), reverse=True), 1)}

    def anyone(i):
        return (N_ITEMS + 1 - ranks[popularity[i]]) / N_ITEMS if popularity[i] else 0.0

    def serendipity(row, u):
        places = [(rank, i) for rank, i in enumerate(row, 1) if i >= 0]
        return mean([max((N_ITEMS + 1 - r) / N_ITEMS - anyone(i), 0) * (i in truth[u]) for r, i in places])

    def epc(row, u):
        places = [(1 / math.log2(rank + 1), i) for rank, i in enumerate(row, 1) if i >= 0]
        gain = sum(d * (i in truth[u]) * (1 - popularity[i] / N_USERS) for d, i in places)
        return gain / sum(d for d, _ in places)

    def efd(row, u):
        places = [(1 / math.log2(rank + 1), i) for rank, i in enumerate(row, 1) if i >= 0]
        gain = sum(d * (i in truth[u]) * -math.log2(known[i] / popularity.sum()) for d, i in places)
        return gain / sum(d for d, _ in places)

    def unequal(may):
        chances = []
        for g in range(3):
            pairs = [(u, i) for u in range(N_USERS) for i in np.flatnonzero(groups == g) if may(u, i)]
            chances.append(sum(i in lists[u] for u, i in pairs) / len(pairs))
        return np.std(chances) / np.mean(chances)

    def distribution(items):
        rows = categories[items].astype(float)
        rows /= np.maximum(rows.sum(axis=1, keepdims=True), 1)
        return rows.sum(axis=0) / rows.sum() if rows.sum() else None

    def divergence(u):
        a, b = distribution(history[u]), distribution(lists[u])
        if a is None or b is None:
            return math.nan
        b = 0.99 * b + 0.01 * a
        return sum(x * math.log(x / y) for x, y in zip(a, b) if x > 0)

    share = counts[counts > 0] / counts.sum()
    got = np.array([exposure[groups == g].sum() for g in range(3)]) / exposure.sum()
    due = np.array([(groups == g).mean() for g in range(3)])
    novelty = over_lists(lambda i: -math.log2(known[i] / N_USERS))
    entropy = float(-(share * np.log2(share)).sum())
    alike = [len(set(a) & set(b)) / math.sqrt(len(a) * len(b)) for a, b in itertools.combinations(full, 2)]
    return {
        "coverage": (counts > 0).mean(),
        "distinct_items": (counts > 0).sum(),
        "user_coverage": len(full) / N_USERS,
        "full_lists": sum(len(x) == k for x in lists) / N_USERS,
        "gini": gini(counts.astype(float)),
        "gini_exposure": gini(exposure),
        "entropy": entropy,
        "entropy_normalized": entropy / math.log2(N_ITEMS),
        "popularity": over_lists(lambda i: popularity[i]),
        "popularity_lift": over_lists(lambda i: popularity[i])
        / mean([mean(popularity[h].tolist()) for h in history if len(h)])
        - 1,
        "tail_share": over_lists(lambda i: float(i not in head)),
        "novelty": novelty,
        "surprisal": novelty / math.log2(N_USERS),
        "self_information": over_lists(lambda i: -math.log2(known[i] / popularity.sum())),
        "ild": over_pairs(lambda i, j: 1 - cosine(p["vectors"][i], p["vectors"][j])),
        "ild_category": over_pairs(lambda i, j: 1 - jaccard(i, j)),
        "personalization": 1 - mean(alike),
        "serendipity": mean([serendipity(ids[u], u) for u in range(N_USERS) if lists[u]]),
        "unexpectedness": mean([sum(i >= k for i in x) / len(x) for x in full]),
        "epc": mean([epc(ids[u], u) for u in range(N_USERS) if lists[u]]),
        "efd": mean([efd(ids[u], u) for u in range(N_USERS) if lists[u]]),
        "rsp": unequal(lambda u, i: i not in history[u]),
        "reo": unequal(lambda u, i: i in truth[u] and i not in history[u]),
        "exposure_gap": float(np.abs(got - due).sum() / 2),
        "miscalibration": mean([divergence(u) for u in range(N_USERS)]),
    }


@pytest.mark.parametrize("operation", [catalog_counts, list_similarity], ids=lambda o: o.name)
def test_kernel_equals_reference(operation):
    for case in operation.examples(np.random.default_rng(2)):
        reference = operation.run("reference", **case)
        for threads in (1, 3):
            got = operation.run("cpu", **case, threads=threads)
            if dataclasses.is_dataclass(got):
                for field in dataclasses.fields(got):
                    a, b = getattr(reference, field.name), getattr(got, field.name)
                    np.testing.assert_array_equal(b, a, err_msg=field.name)
            else:
                np.testing.assert_allclose(got, reference, **SAME)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("k", [8, 3, 1])
def test_metrics_equal_their_definitions(k, ragged):
    p = problem(ragged)
    right = {f"{name}@{k}": value for name, value in expected(p, k).items()}
    got = fr.evaluate_catalog(**p, metrics=list(right), undefined="nan")
    np.testing.assert_allclose([got[n] for n in right], list(right.values()), **SAME)
    assert {n.partition("@")[0] for n in right} == set(METRICS)
    assert set(got.undefined) == ({"ild@1", "ild_category@1"} if k == 1 else set())


def test_cutoffs_and_counts():
    ids = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1]])
    got = fr.evaluate_catalog(ids, 10, metrics=["coverage", "coverage@1", "coverage@99"])
    assert dict(got) == {"coverage": 0.4, "coverage@1": 0.1, "coverage@99": 0.4}
    assert got.counts == {"lists": 3, "empty_lists": 1, "items": 10, "listed": 5}
    assert got.item_counts.tolist() == [2, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert got.values["coverage"] == 0.4
    assert got.to_frame()["metric"].tolist() == ["coverage", "coverage@1", "coverage@99"]
    assert got.parameters["coverage@1"] == {"k": 1}
    assert "coverage" in repr(got)
    with pytest.raises(KeyError, match="was not asked for"):
        got["gini"]


def test_per_list_values_average_to_the_metric():
    p = problem(ragged=True)
    names = [
        "novelty",
        "popularity",
        "ild",
        "serendipity",
        "unexpectedness",
        "epc",
        "efd",
        "miscalibration",
        "ild_category",
    ]
    got = fr.evaluate_catalog(**p, metrics=names)
    frame = got.per_list
    assert frame["items"].tolist() == [len(x) for x in lists_of(p["top"], 8)]
    np.testing.assert_allclose(frame[names].mean(), got.values[names], **SAME)


def test_exposure_by_group_against_a_target():
    ids = np.array([[0, 1], [0, 2]])
    got = fr.evaluate_catalog(
        ids, 4, metrics="exposure_gap", item_groups=["a", "a", "b", "b"], target={"b": 3, "a": 1}
    )
    share = (2 + 1 / math.log2(3)) / (2 + 2 / math.log2(3))
    assert got.exposure.loc["a"].tolist() == pytest.approx([2, share, 0.25])
    assert got["exposure_gap"] == pytest.approx(share - 0.25)


def test_parity_and_opportunity_by_hand():
    ids, groups = np.array([[0, 1], [0, 2]]), ["a", "a", "b", "b"]
    truth = sp.csr_array(np.array([[1, 0, 0, 1], [0, 0, 1, 0]]))
    got = fr.evaluate_catalog(ids, 4, metrics=["rsp", "reo"], item_groups=groups, truth=truth)
    assert got["rsp"] == pytest.approx(0.5)  # 3 of 4 pairs of "a" are listed, 1 of 4 of "b"
    assert got["reo"] == pytest.approx((1 - 1 / 2) / (1 + 1 / 2))  # 1 of 1, 1 of 2
    seen = sp.csr_array(np.array([[1, 0, 0, 0], [0, 0, 0, 0]]))
    got = fr.evaluate_catalog(ids, 4, metrics=["rsp", "reo"], item_groups=groups, truth=truth, history=seen)
    assert got["rsp"] == pytest.approx((2 / 3 - 1 / 4) / (2 / 3 + 1 / 4))
    assert got["reo"] == 0.0  # no relevant item of "a" is left: one group cannot differ
    with pytest.warns(RuntimeWarning, match="no list holds a relevant item"):
        fr.evaluate_catalog([[1]], 4, metrics="reo", item_groups=groups, truth=sp.csr_array((1, 4)))


def test_top_k_results_and_ids_of_any_kind_are_read(tmp_path):
    rows = np.array([[0, 1], [2, -1]])
    top = fr.TopK(rows, np.zeros((2, 2), np.float32), labels=np.array(["a", "b", "c", "d"]))
    want = dict(fr.evaluate_catalog(rows, 4))
    assert dict(fr.evaluate_catalog(top)) == want
    assert dict(fr.evaluate_catalog([["a", "b"], ["c", None]], items=["a", "b", "c", "d"])) == want
    assert dict(fr.evaluate_catalog(np.array([[7, 5], [3, -1]]), items=[7, 5, 3, 1])) == want
    assert dict(fr.evaluate_catalog(pd.DataFrame(rows), 4)) == want
    assert dict(fr.evaluate_catalog(rows.astype(np.int32), 4)) == want
    assert dict(fr.evaluate_catalog([[0, 1], [2]], 4)) == want
    assert dict(fr.evaluate_catalog([["a", "b"], ("c",)], items=["a", "b", "c", "d"])) == want
    assert dict(fr.evaluate_catalog(np.asfortranarray(rows), 4)) == want
    assert dict(fr.evaluate_catalog({"u": [0, 1], "v": [2]}, 4)) == want
    assert dict(fr.evaluate_catalog([{1: 0.1, 0: 0.9}, {2: 1.0}], 4)) == want
    assert dict(fr.evaluate_catalog({"u": {"b": 0.1, "a": 2.0}, "v": {"c": 1.0}}, items=list("abcd"))) == want
    frame = pd.DataFrame({"user": list("vuu"), "item": [2, 1, 0], "score": [0.5, 0.2, 0.9]})
    assert dict(fr.evaluate_catalog(frame, 4)) == want
    path = tmp_path / "lists.csv"
    frame.to_csv(path, index=False)
    assert dict(fr.evaluate_catalog(path, 4)) == want
    scores = sp.csr_array(np.array([[0.2, 0.1, 0, 0], [0, 0, 3, 0]]))
    assert dict(fr.evaluate_catalog(scores, 4)) == want
    frozen = rows.copy()
    frozen.flags.writeable = False
    assert dict(fr.evaluate_catalog(frozen, 4)) == want


def test_lists_that_are_scored_are_read_best_first():
    """Discounts and cutoffs look at the order; histories belong to the lists as their users first appear."""
    frame = pd.DataFrame({"user": list("vuuv"), "item": [2, 1, 0, 3], "score": [0.5, 0.2, 0.9, 0.7]})
    history = sp.csr_array(np.array([[1, 0, 0, 0], [0, 1, 1, 0]]))
    names = ["gini_exposure", "coverage@1", "novelty@1", "miscalibration"]
    known = {"history": history, "categories": list("xyxy"), "metrics": names}
    assert dict(fr.evaluate_catalog(frame, **known)) == dict(fr.evaluate_catalog([[3, 2], [0, 1]], **known))


def test_means_over_lists_have_a_value_a_list():
    p = problem(ragged=True)
    names = [
        "popularity",
        "tail_share",
        "novelty",
        "surprisal",
        "self_information",
        "ild",
        "novelty@2",
        "epc",
    ]
    got = fr.evaluate_catalog(**p, metrics=[*names, "coverage"])
    assert list(got.per_list) == ["items", *names]
    np.testing.assert_allclose(got.per_list[names].mean(), got.values[names], **SAME)
    spread = fr.evaluation.bootstrap(got, replicates=200)
    assert spread.metrics == names
    np.testing.assert_allclose(spread.mean, got.values[names], **SAME)
    runs = {"a": p["top"], "b": np.where(p["top"] < 0, p["top"], (p["top"] + 1) % N_ITEMS)}
    both = {
        name: fr.evaluate_catalog(**p | {"top": top}, metrics=[*names, "coverage"])
        for name, top in runs.items()
    }
    compared = fr.compare(both, ["novelty@2", "popularity"]).frame
    np.testing.assert_allclose(compared["run_mean"], both["b"].values[["novelty@2", "popularity"]], **SAME)
    kinds = {
        "categories": p["categories"],
        "history": p["history"],
        "metrics": ["miscalibration", "popularity"],
    }
    both = {name: fr.evaluate_catalog(top, undefined="nan", **kinds) for name, top in runs.items()}
    compared = fr.compare(both)
    assert (compared.better, compared.unit) == ({"miscalibration": -1, "popularity": 0}, "lists")
    old, new = both["a"].per_list, both["b"].per_list
    assert compared.frame["win"].tolist() == [
        (new["miscalibration"] < old["miscalibration"]).sum(),
        (new["popularity"] > old["popularity"]).sum(),
    ]
    with pytest.raises(ValueError, match=r"has no metric with a value a list, .*it has coverage"):
        fr.evaluation.bootstrap(fr.evaluate_catalog([[0, 1]], 3, metrics="coverage"))
    with pytest.warns(RuntimeWarning, match="`popularity` sums to 0"):
        nothing = fr.evaluate_catalog([[0, 1]], popularity=np.zeros(3), metrics=["tail_share", "popularity"])
    assert nothing.per_list["tail_share"].isna().all()


def test_named_lists_are_compared_by_their_names():
    """Whatever the order they come in; in batches too."""
    lists = {"u": [0, 1], "v": [2, 3], "w": [1]}
    known = {"popularity": [4, 3, 2, 1], "n_users": 5, "metrics": ["novelty"]}
    a = fr.evaluate_catalog(lists, **known)
    b = fr.evaluate_catalog(dict(reversed(lists.items())), **known)
    assert b.per_list.index.tolist() == ["w", "v", "u"]
    assert fr.compare({"a": a, "b": b}).frame[["n", "difference", "tie"]].iloc[0].tolist() == [3, 0, 3]
    total = fr.evaluation.CatalogAccumulator(**known)
    for name, items in lists.items():
        total.update({name: items})
    pd.testing.assert_frame_equal(total.result().per_list, a.per_list)
    with pytest.raises(ValueError, match="some batches have `names` and some have none"):
        total.update([[0]])


def test_no_lists_are_lists():
    for none in ([], [[], []], {}, np.zeros((0, 3), int)):
        assert fr.evaluate_catalog(none, 3, metrics="coverage")["coverage"] == 0.0
    assert fr.evaluate_catalog([[], []], 3, metrics="coverage").counts["empty_lists"] == 2


def test_popularity_above_the_users_is_refused_where_users_matter():
    """An item of more users than there are would be of negative novelty."""
    known = {"popularity": [5, 1, 1], "truth": sp.csr_array(np.ones((1, 3)))}
    assert fr.evaluate_catalog([[0, 1]], n_users=2, metrics="popularity", **known)["popularity"] == 3.0
    for metric in ("novelty", "surprisal", "epc"):
        with pytest.raises(
            ValueError, match=r"must not be above `n_users`, 2.*item 0 has 5.*not interactions"
        ):
            fr.evaluate_catalog([[0, 1]], n_users=2, metrics=metric, **known)
    history = sp.csr_array(np.ones((1, 3)))  # of other users than those that popularity was counted over
    with pytest.raises(ValueError, match="needs `n_users="):
        fr.evaluate_catalog([[0, 1]], metrics="novelty", history=history, **known)


def test_history_gives_popularity_and_users():
    p = problem(ragged=False)
    popularity = np.asarray(p["history"].sum(axis=0)).ravel()
    a = fr.evaluate_catalog(p["top"], history=p["history"], n_items=N_ITEMS, metrics="novelty")
    b = fr.evaluate_catalog(p["top"], popularity=popularity, n_users=N_USERS, metrics="novelty")
    assert a["novelty"] == b["novelty"]


def test_what_cannot_be_computed_is_said():
    empty = np.full((2, 3), -1)
    with pytest.warns(RuntimeWarning, match="no list holds an item"):
        got = fr.evaluate_catalog(empty, 5, metrics=["gini", "coverage"])
    assert math.isnan(got["gini"])
    assert got["coverage"] == 0.0
    assert "gini" in got.undefined
    with pytest.raises(ValueError, match="fewer than two lists"):
        fr.evaluate_catalog([[0, 1]], 3, metrics="personalization", undefined="error")
    names = ["coverage", "user_coverage", "entropy"]
    quiet = fr.evaluate_catalog(np.zeros((0, 3), int), 5, metrics=names, undefined="nan")
    assert quiet["coverage"] == 0.0
    assert set(quiet.undefined) == {"user_coverage", "entropy"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"metrics": "covrage"}, ValueError, "Did you mean 'coverage'"),
        ({"metrics": None}, TypeError, "must be a list of names; got NoneType"),
        ({"metrics": "ndcg@10"}, ValueError, "which is not known. fr.evaluate has it"),
        ({"metrics": "logloss"}, ValueError, "fr.evaluate_clicks has it"),
        ({"categories": [["x"], ["x", "y"], [], [], []]}, TypeError, "MultiLabelBinarizer"),
        (
            {"top": {"q": {"a": math.nan}}, "items": list("abcde")},
            ValueError,
            "`top` has a score that is NaN",
        ),
        ({"top": {"q": ["a"]}}, TypeError, "got 'a'. Give the items' ids as `items="),
        ({"top": {"q": ["z"]}, "items": list("abcde")}, ValueError, "'z', which is not in `items`"),
        ({"metrics": "coverage@0"}, ValueError, "positive integer after '@'"),
        ({"metrics": "coverage@x"}, ValueError, "positive integer after '@'"),
        ({"metrics": []}, ValueError, "at least one metric"),
        ({"metrics": [3]}, TypeError, "must hold names"),
        ({"metrics": "novelty"}, ValueError, "'novelty' needs `popularity="),
        ({"metrics": "novelty", "popularity": np.ones(5)}, ValueError, "needs `n_users="),
        ({"metrics": "ild"}, ValueError, "needs `vectors="),
        ({"metrics": "serendipity", "popularity": np.ones(5)}, ValueError, "needs `truth="),
        ({"metrics": "exposure_gap"}, ValueError, "needs `item_groups="),
        ({"top": [[0, 5]]}, ValueError, "list 0 holds 5"),
        ({"top": [[0, 1], [-2, 1]]}, ValueError, "list 1 holds -2"),
        ({"top": [[0, 1], [2, 2]]}, ValueError, "list 1 does"),
        ({"top": [[0.0, 1.0]]}, TypeError, "must hold integer item rows"),
        ({"top": [["a", "b"]]}, TypeError, "items="),
        ({"top": [["a", "z"]], "items": list("abcde")}, ValueError, "'z', which is not in `items`"),
        ({"top": [["a"]], "items": list("abaab")}, ValueError, "name every item once"),
        ({"top": [0, 1]}, ValueError, r"must have shape \(lists, k\)"),
        ({"n_items": None}, ValueError, "`n_items` must be given"),
        ({"n_items": -1}, ValueError, "n_items"),
        ({"popularity": np.ones(4)}, ValueError, "popularity"),
        ({"popularity": -np.ones(5)}, ValueError, "not negative"),
        ({"popularity": np.full(5, 1e308)}, ValueError, "must be finite"),
        ({"vectors": np.ones((4, 2))}, ValueError, "one row an item"),
        ({"vectors": np.full((5, 2), np.nan)}, ValueError, "finite"),
        ({"categories": ["x"] * 4}, ValueError, "one label an item"),
        ({"categories": ["x", None, "x", "x", "x"]}, ValueError, "item 1 has no label"),
        ({"history": np.ones((2, 5))}, TypeError, "SciPy sparse"),
        ({"history": sp.csr_array((3, 5))}, ValueError, "history"),
        ({"baseline": np.zeros((3, 2), int)}, ValueError, "baseline"),
        ({"target": {"a": 1}}, ValueError, "needs `item_groups`"),
        ({"item_groups": list("aabbb"), "target": {"a": 1}}, ValueError, "a share for each"),
        ({"undefined": "shout"}, ValueError, "undefined"),
        ({"duplicates": "shrug"}, ValueError, "duplicates"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    good = {"top": np.array([[0, 1], [2, -1]]), "n_items": 5, "metrics": "coverage"}
    with pytest.raises(error, match=message):
        fr.evaluate_catalog(**{**good, **change})


@pytest.mark.parametrize(("top", "message"), [([[0, 1, 1]], "list 0 does"), ([[0, 1, 9]], "list 0 holds 9")])
def test_a_fault_behind_the_cutoff_is_one_too(top, message):
    with pytest.raises(ValueError, match=message):
        fr.evaluate_catalog(top, 5, metrics="coverage@1")


def test_duplicates_can_be_counted():
    got = fr.evaluate_catalog([[1, 1], [0, 2]], 3, metrics="entropy", duplicates="count")
    assert got["entropy"] == pytest.approx(1.5)


@pytest.mark.parametrize("threads", [2, 3])
def test_same_bits_for_any_threads(threads):
    p = problem(ragged=True)
    one, many = (fr.evaluate_catalog(**p, metrics=sorted(METRICS), threads=t) for t in (1, threads))
    assert dict(one) == dict(many)


def test_same_bits_for_any_instruction_set():
    code = """
        import numpy as np, fastrec as fr
        rng = np.random.default_rng(0)
        ids = np.argsort(rng.random((500, 40)), axis=1)[:, :9]
        names = ["gini", "entropy", "personalization", "ild"]
        got = fr.evaluate_catalog(ids, 40, vectors=rng.standard_normal((40, 13)), metrics=names)
        print([value.hex() for value in dict(got).values()])
    """
    assert len({output_of(code, FASTREC_ISA=isa) for isa in USABLE_ISAS}) == 1


def test_gini_and_entropy_at_their_ends():
    even = fr.evaluate_catalog([[0, 1], [2, 3]], 4, metrics=["gini", "entropy_normalized", "personalization"])
    assert dict(even) == {"gini": 0.0, "entropy_normalized": 1.0, "personalization": 1.0}
    one = fr.evaluate_catalog([[2], [2], [2]], 4, metrics=["gini", "entropy", "personalization"])
    assert dict(one) == {"gini": 0.75, "entropy": 0.0, "personalization": 0.0}


def test_zero_vectors_are_like_no_other_and_huge_ones_do_not_overflow():
    vectors = np.array([[1e200, 1e200], [1e-200, 1e-200], [0.0, 0.0]])
    got = fr.evaluate_catalog([[0, 1], [0, 2]], vectors=vectors, metrics="ild")
    np.testing.assert_allclose(got.per_list["ild"], [0.0, 1.0], atol=1e-15)
