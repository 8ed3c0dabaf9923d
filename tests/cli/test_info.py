from __future__ import annotations

import json

import fastrec as fr


def test_info_for_people_and_for_programs(fastrec) -> None:
    done = fastrec("info")
    assert done.code == 0
    for word in ("fastrec", "python", "instruction set", "threads", "gpu", "numpy"):
        assert f"\n{word}" in "\n" + done.out
    found = json.loads(fastrec("info", "--json").out)
    assert found == json.loads(json.dumps(fr.info()))
