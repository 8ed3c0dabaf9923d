"""Run a snippet in a fresh interpreter, for what can only be seen there: instruction sets, imports, crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from fastrec._core import isa

USABLE_ISAS = isa.usable()


def run_python(code: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run ``code``, which may import what lies beside this file.

    Keyword arguments set (or, as ``None``, remove) environment variables.
    """
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [env.get("PYTHONPATH")])])
    for name, value in environment.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(code)],  # -P: never import from the folder it happens to run in
        env=env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def output_of(code: str, **environment: str | None) -> str:
    """The standard output of ``code``; a non-zero exit fails the test and shows what it printed."""
    done = run_python(code, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
