"""Index files: the same bits after as before, and whatever is not an index is refused."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_files import PREFIX, assert_refused_or_harmless
from ranking import METRICS, assert_top, draw
from subprocesses import output_of

import fastrec as fr
from fastrec.ranking import storage


def make(n: int = 70, d: int = 9, dtype: Any = np.float32, **options: Any) -> fr.Index:
    rng = np.random.default_rng(0)
    items = draw("gamma norms", rng, n, d)
    if n > 5:
        items[3, 0], items[4, 0] = np.inf, np.nan
    return fr.Index(items.astype(dtype), **options)


def assert_same(index: fr.Index, other: fr.Index) -> None:
    queries = draw("normal", np.random.default_rng(1), 30, index.shape[1])
    queries[2] = 0
    before, after = index.topk(queries, 6), other.topk(queries, 6)
    assert_top(after, (before.rows, before.scores))
    assert after.ids.dtype == before.ids.dtype
    assert after.ids.tolist() == before.ids.tolist()
    few = np.arange(0, len(index), 2)
    expected = index.topk(queries, 3, candidates=few)
    assert_top(other.topk(queries, 3, candidates=few), (expected.rows, expected.scores))
    assert repr(other) == repr(index)
    assert other.nbytes == index.nbytes


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_the_same_bits_after_as_before(tmp_path: Path, metric: str, mmap: bool) -> None:
    path = tmp_path / "index"
    for n, d in [(0, 4), (1, 1), (70, 9), (129, 40)]:
        for dtype in (np.float32, np.float16):
            for precision in ("int8", "float32"):
                for bias in (None, np.linspace(-1, 1, n)):
                    index = make(n, d, dtype, metric=metric, precision=precision, bias=bias)
                    index.save(path)
                    assert_same(index, fr.Index.load(path, mmap=mmap))


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(
    "labels",
    [
        np.arange(70) * 5,
        np.arange(70, dtype=np.uint16),
        np.arange(70).astype(">i4"),
        np.array([f"é{i}" * (i % 3) for i in range(70)]),
        np.array([f"日本{i}" for i in range(70)], object),
        np.arange(70).astype("S3"),
        list(range(70)),
        [f"item {i}" for i in range(70)],
    ],
    ids=["int64", "uint16", "big-endian", "unicode", "objects", "bytes", "list of int", "list of str"],
)
def test_labels(tmp_path: Path, labels: Any, mmap: bool) -> None:
    index = make(ids=labels)
    index.save(tmp_path / "index")
    assert_same(index, fr.Index.load(tmp_path / "index", mmap=mmap))


def test_labels_that_cannot_be_saved(tmp_path: Path) -> None:
    odd = np.array([b"a"] * 70, object)
    with pytest.raises(
        TypeError, match="`ids` must be all integers or all strings to be saved; got bytes b'a'"
    ):
        make(ids=odd).save(tmp_path / "index")
    with pytest.raises(TypeError, match="`ids` beyond 64 bits cannot be saved"):
        make(ids=[2**70] * 70).save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


def test_bfloat16(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="makes bfloat16 items")
    index = fr.Index(torch.tensor(draw("gamma norms", np.random.default_rng(0), 70, 40)).bfloat16())
    index.save(tmp_path / "index")
    assert_same(index, fr.Index.load(tmp_path / "index"))


@pytest.mark.parametrize("layout", ["strided", "reversed", "Fortran", "big-endian"])
def test_items_of_any_layout(tmp_path: Path, layout: str) -> None:
    x = draw("gamma norms", np.random.default_rng(0), 70, 12)
    items = {
        "strided": np.repeat(x, 2, axis=0)[::2],
        "reversed": x[::-1].copy()[::-1],
        "Fortran": np.asfortranarray(x),
        "big-endian": x.astype(">f4"),
    }[layout]
    index = fr.Index(items)
    index.save(tmp_path / "index")
    assert_same(index, fr.Index.load(tmp_path / "index"))


def test_a_loaded_index_can_be_saved_over_its_own_file(tmp_path: Path) -> None:
    index = make()
    index.save(tmp_path / "a")
    loaded = fr.Index.load(str(tmp_path / "a"))
    loaded.save(tmp_path / "a")
    assert_same(index, loaded)
    assert_same(index, fr.Index.load(tmp_path / "a"))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_files_are_reproducible_and_hold_no_pickle(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(ids=[f"{i}" for i in range(70)]).save(tmp_path / name)
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    assert len(data) % 64 == 0
    header = json.loads(data[PREFIX.size : PREFIX.size + PREFIX.unpack_from(data)[3]])
    assert all(int(entry["offset"]) % 64 == 0 for entry in header["arrays"].values())


def test_every_instruction_set_reads_the_same_file(tmp_path: Path) -> None:
    from subprocesses import USABLE_ISAS

    path = tmp_path / "index"
    index = make(300, 40, metric="l2", precision="int8")
    index.save(path)
    queries = draw("normal", np.random.default_rng(1), 7, 40)
    expected = index.topk(queries, 9).rows.tolist()
    snippet = f"""
        import numpy as np, fastrec as fr
        from ranking import draw
        queries = draw("normal", np.random.default_rng(1), 7, 40)
        print(fr.Index.load({os.fspath(path)!r}).topk(queries, 9).rows.tolist())
    """
    for isa in USABLE_ISAS:
        assert output_of(snippet, FASTREC_ISA=isa) == str(expected)


# ---- damage ----


@pytest.fixture(scope="module")
def good() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        make(40, 5, ids=[f"é{i}" for i in range(40)], bias=np.ones(40), precision="int8").save(path)
        return path.read_bytes()


def test_any_flipped_byte_is_noticed(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "index"
    rng = np.random.default_rng(0)
    for place in [*range(0, 64), *rng.integers(64, len(good), 300)]:
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="index"):
            fr.Index.load(path, mmap=bool(place % 2))


def test_any_truncation_and_any_addition_is_noticed(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "index"
    for size in [1, 7, 8, 31, 32, 33, 64, 500, *range(1000, len(good), 517), len(good) - 1]:
        path.write_bytes(good[:size])
        with pytest.raises(
            ValueError, match=rf"{path.name} is not a valid fastrec index: it is truncated: expected"
        ):
            fr.Index.load(path)
    path.write_bytes(good + b"\0" * 64)
    with pytest.raises(
        ValueError, match=rf"longer than it should be: expected {len(good)} bytes, got {len(good) + 64}"
    ):
        fr.Index.load(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="index is not a fastrec index: it is empty"):
        fr.Index.load(path)
    path.write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(ValueError, match=r"not a fastrec index: it must start with .*FRINDEX.*; got b'PK"):
        fr.Index.load(path)
    np.save(tmp_path / "array.npy", np.ones(100))
    with pytest.raises(ValueError, match="not a fastrec index"):
        fr.Index.load(tmp_path / "array.npy")
    with pytest.raises(ValueError, match="not a fastrec index: it is a folder"):
        fr.Index.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fr.Index.load(tmp_path / "missing")


def test_another_version(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "index"
    for version in (0, storage.VERSION + 1):
        path.write_bytes(good[:8] + struct.pack("<I", version) + good[12:])
        with pytest.raises(
            ValueError,
            match=rf"has version {version} of the index format; .* reads version {storage.VERSION}",
        ):
            fr.Index.load(path)


def setting(**values: Any) -> Any:
    return lambda header, arrays: header.update(values)


def element(name: str, place: int, value: int) -> Any:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name][place] = value

    return change


def short(name: str) -> Any:
    def change(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name][:-32]
        header["arrays"][name]["shape"] = [len(arrays[name])]

    return change


def entry_of(name: str, **values: Any) -> Any:
    return lambda header, arrays: header["arrays"][name].update(values)


FORGERIES = {
    "nothing": (setting(), None),
    "row beyond the items": (element("order", 0, 40), "an item row is not below 40"),
    "row twice": (element("order", 0, 1), "twice|rows for"),
    "padding among the items": (element("order", 0, 0xFFFFFFFF), "padding|positions"),
    "exponent": (setting(exponent=9), None),
    "huge exponent": (setting(exponent=999), "`exponent` must lie in"),
    "float exponent": (setting(exponent=0.5), "`exponent`"),
    "metric": (setting(metric="dog"), "`metric` must be one of"),
    "metric of another kind": (setting(metric=[]), "index"),
    "precision": (setting(precision="int4"), "`precision` must be"),
    "panels": (setting(panel=64), "panels must be 32 items"),
    "item type": (setting(dtype="float16"), "'items' must be <f2"),
    "unknown item type": (setting(dtype="float8"), "items must be one of"),
    "few codes": (short("codes"), "array 'codes' must be"),
    "few positions": (short("order"), "index"),
    "few bounds": (short("beta"), "array 'beta' must be"),
    "no labels": (setting(labels=None), "arrays that no index has"),
    "labels that overlap": (element("label_ends", 3, 1), "lengths do not add up"),
    "labels beyond their text": (element("label_ends", 40, 999), "lengths do not add up"),
    "text that is not UTF-8": (element("labels", 0, 0xFF), "not UTF-8"),
    "objects": (entry_of("items", dtype="|O"), "index"),
    "a wrong shape": (entry_of("items", shape=[9, 9]), "index"),
    "a negative shape": (entry_of("items", shape=[-1, 5]), "index"),
    "a text shape": (entry_of("items", shape="ab"), "index"),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_forged_files_are_refused_and_never_crash(tmp_path: Path, good: bytes, case: str) -> None:
    """Checksums do not make a header true: what kernels follow without looking is checked for itself."""
    assert_refused_or_harmless(tmp_path / "index", good, *FORGERIES[case])


LENGTHS_BEHIND_PLACES = {
    "none": (lambda header, arrays: (arrays.pop("rest"), header["arrays"].pop("rest")), None),
    "one too few": (
        lambda header, arrays: (
            arrays.update(rest=arrays["rest"][1:]),
            header["arrays"]["rest"].update(shape=[arrays["rest"].size]),
        ),
        "array 'rest' must be",
    ),
    "that are no numbers": (lambda header, arrays: arrays["rest"].fill(np.nan), None),
    "beyond all": (lambda header, arrays: arrays["rest"].fill(np.inf), None),
    "below zero": (lambda header, arrays: arrays["rest"].fill(-1e38), None),
}


@pytest.mark.parametrize("case", LENGTHS_BEHIND_PLACES)
def test_forged_lengths_behind_places(tmp_path: Path, case: str) -> None:
    """What tells a search where it may give a panel up."""
    rng = np.random.default_rng(5)
    path = tmp_path / "index"
    fr.Index(rng.standard_normal((900, 72)) * rng.gamma(2, size=(900, 1))).save(path)
    assert_refused_or_harmless(path, path.read_bytes(), *LENGTHS_BEHIND_PLACES[case])


def test_saving_where_one_cannot(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        make().save(tmp_path / "nowhere" / "index")
