"""``_core.files``: an interrupted write leaves the old file, a finished one the new."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fastrec._core.files import replacing


def test_success_replaces(tmp_path: Path) -> None:
    target = tmp_path / "model.npz"
    target.write_text("old")
    with replacing(target) as temporary:
        assert temporary.suffix == ".npz"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model.npz"
    target.write_text("old")

    def interrupted() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_permissions_are_those_of_a_plain_open(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    with replacing(str(tmp_path / "ours")) as temporary:
        temporary.write_text("")
    assert stat.S_IMODE(os.stat(tmp_path / "ours").st_mode) == stat.S_IMODE(os.stat(plain).st_mode)


def test_missing_folder_and_folder_as_target(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"),
        replacing(tmp_path / "nowhere" / "x"),
    ):
        pass
    with pytest.raises(IsADirectoryError, match="it is a folder"), replacing(tmp_path):
        pass
