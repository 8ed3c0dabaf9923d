"""Print a code block of README.md, so that what runs in CI is what the page says.

python tools/readme.py LANGUAGE NUMBER      (`sh 1` is the first block of shell, `python 1` the first of Python)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "README.md"


def block(language: str, number: int, page: Path = PAGE) -> str:
    """The ``number``-th (from 1) fenced block of ``language``."""
    blocks = re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    if not 1 <= number <= len(blocks):
        raise SystemExit(f"{page.name} has {len(blocks)} blocks of {language}; there is no number {number}")
    return blocks[number - 1]


if __name__ == "__main__":
    print(block(sys.argv[1], int(sys.argv[2])), end="")
