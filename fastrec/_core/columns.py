"""What people call the columns of runs and judgements; the first name of each is ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

QUERY = ("query", "query_id", "q_id", "qid", "user", "user_id", "topic", "topic_id")
ITEM = ("item", "item_id", "iid", "doc", "doc_id", "docid", "docno", "document", "document_id", "corpus_id",
        "product_id")  # fmt: skip
SCORE = ("score", "similarity", "sim", "prediction")
GAIN = ("gain", "relevance", "rel", "grade", "rating", "label", "judgment", "judgement")
SUBTOPIC = ("subtopic", "subtopic_id", "intent", "intent_id", "aspect")
RANK = ("rank",)


def find(columns: Iterable[str], names: Sequence[str], where: str) -> str | None:
    """The column under the first of ``names``, else the only one under another of them, else ``None``.

    Case, blanks around and ``-`` or a blank for ``_`` do not matter.  Several are a ``ValueError`` that says ``where``.
    """
    known = {name.strip().lower().replace("-", "_").replace(" ", "_"): name for name in reversed([*columns])}
    if names[0] in known:
        return known[names[0]]
    found = [known[name] for name in names if name in known]
    if len(found) > 1:
        raise ValueError(
            f"{where}: {found[0]!r} and {found[1]!r} could both be the {names[0]}; "
            f"call the one that is meant {names[0]!r}"
        )
    return found[0] if found else None


def find_gain(columns: Sequence[str], where: str) -> str | None:
    """The column of gains; where there is none by its own names, judgements may call it ``score``, as BEIR's do."""
    return find(columns, GAIN, where) or find(columns, ("score",), where)
