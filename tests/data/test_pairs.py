"""The two parsers of each text format agree, and the fast one is exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastrec.data import pairs, read_run, read_truth

IDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6).filter(
    lambda s: not s.startswith(("#", '{"', "{}"))  # a comment, or JSON
)
ROWS = st.lists(st.tuples(IDS, IDS, st.floats(allow_nan=False, width=64)), min_size=1, max_size=20)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def triples(frame):
    return list(zip(frame["query"].tolist(), frame["item"].tolist(), frame.iloc[:, 2].tolist()))


@QUIET
@given(
    ROWS,
    st.sampled_from([" ", "\t", "  ", " \t"]),
    st.sampled_from(["\n", "\r\n", " \n", "\n\n", "\n# no\n"]),
)
def test_trec_gives_back_every_id_and_every_bit_of_the_score(tmp_path: Path, rows, blank, end) -> None:
    file = tmp_path / "x.run"
    file.write_bytes(
        "".join(blank.join([q, "Q0", i, "1", repr(s), "tag"]) + end for q, i, s in rows).encode()
    )
    frame = read_run(file)
    assert triples(frame) == rows
    assert list(pairs._trec_lines(file.read_bytes(), file, pairs.RUN)) == rows


@QUIET
@given(ROWS)
def test_csv_and_jsonl_give_back_every_id_and_every_bit_of_the_score(tmp_path: Path, rows) -> None:
    import csv

    rows = [(q + "_", i + "_", s) for q, i, s in rows]
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        file = tmp_path / f"x{suffix}"
        with file.open("w", newline="") as out:
            writer = csv.writer(out, delimiter=delimiter)
            writer.writerow(["item", "score", "other", "query"])
            writer.writerows((i, repr(s), 'a "quoted"\nfield', q) for q, i, s in rows)
        assert triples(read_run(file)) == rows
        assert list(pairs._delimited_lines(file.read_bytes(), file, pairs.RUN, delimiter, (3, 0, 1))) == rows
    rows = [(q, i, s if abs(s) < 1e300 else 1.0) for q, i, s in rows]
    file = tmp_path / "x.jsonl"
    file.write_text(
        "".join(json.dumps({"query": q, "item": i, "score": s, "z": [1]}) + "\n" for q, i, s in rows)
    )
    assert triples(read_run(file)) == rows
    assert list(pairs._json_lines(file.read_bytes(), file, pairs.RUN, ("query", "item", "score"))) == rows


def test_trec_ids_are_strings_and_no_spelling_is_a_missing_value(tmp_path: Path) -> None:
    file = tmp_path / "run.txt"
    file.write_text('007 Q0 NA 1 2 t\nnull Q0 1e5 2 1 t\n"a Q0 b" 3 .5 t\n')
    assert triples(read_run(file)) == [("007", "NA", 2.0), ("null", "1e5", 1.0), ('"a', 'b"', 0.5)]


def test_csv_ids_are_integers_only_where_that_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.csv"
    file.write_text("query,item,score\n1,007,1\n-20,NA,2\n")
    frame = read_run(file)
    assert frame["query"].dtype == np.int64
    assert triples(frame) == [(1, "007", 1.0), (-20, "NA", 2.0)]
    file.write_text("query,item,score\n99999999999999999999,+1,1\n")
    assert triples(read_run(file)) == [("99999999999999999999", "+1", 1.0)]


@pytest.mark.parametrize("kind", ["run", "truth"])
@pytest.mark.parametrize("text", ["# only a comment\n", "query,item\n"])
def test_a_file_without_rows_is_an_empty_frame(tmp_path: Path, kind: str, text: str) -> None:
    file = tmp_path / ("x.csv" if "," in text else "x.txt")
    file.write_text(text)
    frame = read_run(file) if kind == "run" else read_truth(file)
    assert frame.shape == (0, 3)
    assert frame.dtypes.iloc[2] == np.float64


def test_text_after_the_tag_is_ignored_in_a_run_and_refused_in_qrels(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("1 Q0 a 1 2.5 tag and more\n1 Q0 b 2 1.5 tag\n")
    assert triples(read_run(file)) == [("1", "a", 2.5), ("1", "b", 1.5)]
    file.write_text("1 0 a 1\n1 0 b 1 more\n")
    with pytest.raises(
        ValueError, match=r"x.txt, line 2: expected 4 fields `query 0 item gain`; got 5: '1 0 b 1 more'"
    ):
        read_truth(file)


def test_without_a_score_the_rank_or_the_order_of_rows_ranks(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("user_id,item_id,rank\n1,5,2\n1,6,1\n")
    assert triples(read_run(file)) == [(1, 5, -2.0), (1, 6, -1.0)]
    file.write_text("user_id,item_id\n1,5\n1,6\n")
    assert read_run(file)["score"].is_monotonic_decreasing
    assert triples(read_truth(file)) == [(1, 5, 1.0), (1, 6, 1.0)]


@pytest.mark.parametrize(
    ("name", "header", "lines"),
    [
        ("qrels.tsv", "query-id\tcorpus-id\tscore", ["q\ti\t4"]),  # as BEIR writes them
        ("x.csv", "Query ID,Doc Id,Judgment", ["q,i,4"]),
        ("x.csv", "user_id,query,item,relevance,score", ["u,q,i,4,9"]),
    ],
)
def test_columns_under_other_names(tmp_path: Path, name: str, header: str, lines: list[str]) -> None:
    file = tmp_path / name
    file.write_text("\n".join([header, *lines]))
    assert triples(read_truth(file)) == [("q", "i", 4.0)]


def test_two_columns_that_could_be_meant_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    for header, message in {
        "user_id,topic,item,rel": "x.csv: 'user_id' and 'topic' could both be the query",
        "query,doc,docno,rel": "'doc' and 'docno' could both be the item",
        "query,item,rel,rating": "'rel' and 'rating' could both be the gain; call the one that is meant 'gain'",
    }.items():
        file.write_text(f"{header}\n1,2,3,4\n")
        with pytest.raises(ValueError, match=message):
            read_truth(file)
    assert triples(read_truth(file, gain="rating")) == [(1, 2, 4.0)]


def test_lines_may_end_in_a_carriage_return(tmp_path: Path) -> None:
    file = tmp_path / "x.trec"
    for end in ("\r", "\r\n", "\n"):
        file.write_bytes(f"1 Q0 a 1 0.5 t{end}2 Q0 b 1 0.4 t{end}".encode())
        assert triples(read_run(file)) == [("1", "a", 0.5), ("2", "b", 0.4)]


def test_columns_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a,b,c,d\nq,i,3,4\n")
    assert triples(read_truth(file, query="a", item="b", gain="d")) == [("q", "i", 4.0)]
    with pytest.raises(ValueError, match=r"expected columns query, item, gain .* got columns 'a, b, c, d'"):
        read_truth(file)


BAD = {
    "short.trec": ("1 Q0 a 1 0.5 t\n1 Q0 b 2 0.4\n", "line 2: expected 6 fields .* got 5: '1 Q0 b 2 0.4'"),
    "qrels.trec": ("1 0 a 1\n", "line 1: expected 6 fields .* got 4 \\(a truth file has 4\\)"),
    "blank.trec": ("\n\n1 Q0 a  0.5 t\n", "line 3: expected 6 fields .* got 5"),
    "score.trec": ("1 Q0 a 1 0.5 t\n# c\n1 Q0 a 1 x t\n", "line 3: expected a number as score; got 'x'"),
    "nan.trec": ("1 Q0 a 1 nan t\n", "line 1: expected a number as score; got 'nan'"),
    "under.trec": ("1 Q0 a 1 1_0 t\n", "line 1: expected a number as score; got '1_0'"),
    "latin.trec": (b"1 Q0 a 1 1 t\n1 Q0 \xe9 1 1 t\n", "line 2: expected UTF-8 text; got the byte 0xe9"),
    "binary.trec": (b"\x7fELF\0\0\0\0", "expected text; got binary data"),
    "utf16.trec": ("1 Q0 a 1 1 t\n".encode("utf-16"), "expected UTF-8 text; got UTF-16"),
    "empty.trec": ("", "the file is empty"),
    "spaces.trec": (" \n\n", "the file holds only blank lines"),
    "cut.trec.gz": (b"\x1f\x8b\x08\0\0\0\0\0\0\3abc", "expected a complete gzip file"),
    "plain.trec.gz": ("1 Q0 a 1 1 t\n", "expected a complete gzip file"),
    "columns.csv": ("query,doc\n1,2\nx", "line 3: expected 2 fields as in the header; got 1: 'x'"),
    "wrong.csv": ("a,b,c\n1,2,3\n", "expected columns query, item, score .* got columns 'a, b, c'"),
    "noheader.csv": ("q1,d1,0.5\n", "expected columns query, item, score .* got columns 'q1, d1, 0.5'"),
    "twice.csv": ("query,item,score,score\n1,2,3,4\n", "expected distinct column names; got 'score' twice"),
    "missing.csv": ("query,item,score\n1,,3\n", "line 2: expected the item id; got none"),
    "noscore.csv": ("query,item,score\n1,2,3\n1,3,\n", "line 3: expected a number as score; got ''"),
    "quote.csv": ('query,item,score\n1,"2,3\n', "line 2: expected well-formed CSV"),
    "bad.jsonl": (
        '{"query": 1, "item": 2, "score": 3}\n{"query": 1, "item"\n',
        "line 2: expected a JSON object",
    ),
    "mixed.jsonl": (
        '{"query": 1, "item": 2}\n{"query": "a", "item": 2}\n',
        "line 2: expected the query id of the same type",
    ),
    "null.jsonl": (
        '{"query": 1, "item": 2, "score": 1}\n{"query": 1, "item": 2}\n',
        "line 2: expected a number in 'score'",
    ),
    "list.jsonl": ("[1, 2]\n", "line 1: expected a JSON object"),
    "bad.json": ('{"q": {"a": 1}', "line 1: expected JSON"),
    "flat.json": ('{"q": 1}', "expected an object {item: score} for query 'q'; got '1'"),
    "text.json": ('{"q": {"a": "x"}}', "expected a number for query 'q', item 'a'; got 'x'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_gives_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_run(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_infinity_is_a_score_and_no_gain(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("query,item,score,gain\n1,2,inf,-inf\n")
    assert triples(read_run(file)) == [(1, 2, np.inf)]
    with pytest.raises(ValueError, match=r"line 2: expected a finite gain; got -inf"):
        read_truth(file)


def test_ids_that_look_like_another_format_are_still_ids(tmp_path: Path) -> None:
    file = tmp_path / "x.run"
    for text in (
        "{ Q0 a 1 2.5 t\n",
        "query\tQ0\titem\t1\t2.5\tt\n",
        "a,b Q0 c,d 1 2.5 t\n",
        "[1] Q0 {} 1 2.5 t\n",
    ):
        file.write_text(text)
        fields = text.split()
        assert triples(read_run(file)) == [(fields[0], fields[2], 2.5)]
