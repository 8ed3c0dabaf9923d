from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture
def fastrec(capsys, monkeypatch, tmp_path):
    """Run a command in an empty folder, in this process; gives its exit code and what it printed."""
    from fastrec.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("FASTREC_DATA", raising=False)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(word) for word in arguments])
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    run.folder = tmp_path
    return run


@pytest.fixture
def refused(fastrec):
    """Run a command that must end with exit code 2, one line on stderr and nothing on stdout; gives the line."""

    def run(*arguments):
        done = fastrec(*arguments)
        assert done.code == 2, (done.out, done.err)
        assert done.out == ""
        assert done.err.startswith("fastrec: error: ")
        assert done.err.count("\n") == 1, done.err
        assert "Traceback" not in done.err
        return done.err.removeprefix("fastrec: error: ").strip()

    run.folder = fastrec.folder
    return run
