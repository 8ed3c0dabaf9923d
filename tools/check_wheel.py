"""Check that a wheel or an sdist holds what it needs and nothing else, by comparing it with `git ls-files`.

    python tools/check_wheel.py dist/fastrec-*.whl dist/fastrec-*.tar.gz

A wheel: every tracked file under `fastrec/`, the Python and CUDA files of `kernels/cuda`, one extension module for
each `kernels/cpu/*.pyx`, and its own metadata.  An sdist: every tracked file except what only the repository needs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY_ONLY = re.compile(r"\.ci/|\.github/|\.gitignore$|\.gitattributes$")
LARGEST_WHEEL = 12_000_000  # bytes


def tracked() -> set[str]:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, capture_output=True, text=True
    )
    return set(filter(None, done.stdout.split("\0")))


def difference(got: set[str], expected: set[str]) -> list[str]:
    return [f"missing: {name}" for name in sorted(expected - got)] + [
        f"does not belong: {name}" for name in sorted(got - expected)
    ]


def check_wheel(path: Path, files: set[str]) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = {info.filename for info in archive.infolist() if not info.is_dir()}
    # fastrec/_kernels/ranking.cpython-311-x86_64-linux-gnu.so -> fastrec/_kernels/ranking
    built = {n.partition(".")[0] for n in names if re.search(r"\.(so|pyd)$", n)}
    plain = {n for n in names if not re.search(r"\.(so|pyd)$", n) and ".dist-info/" not in n}
    expected = {n for n in files if n.startswith("fastrec/")}
    cuda = {n for n in files if re.fullmatch(r"kernels/cuda/.*\.(py|cu|cuh)", n)}
    expected |= {n.replace("kernels/cuda/", "fastrec/_kernels/cuda/") for n in cuda}
    extensions = {
        f"fastrec/_kernels/{Path(n).stem}" for n in files if re.fullmatch(r"kernels/cpu/\w+\.pyx", n)
    }
    wrong = difference(plain, expected) + difference(built, extensions)
    if not any(n.endswith(".dist-info/licenses/LICENSE") for n in names):
        wrong.append("missing: the licence")
    if path.stat().st_size > LARGEST_WHEEL:
        wrong.append(f"{path.stat().st_size:,} bytes, over the {LARGEST_WHEEL:,} agreed on")
    return wrong


def check_sdist(path: Path, files: set[str]) -> list[str]:
    with tarfile.open(path) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    added = {n for n in names if n in ("PKG-INFO", "setup.cfg") or n.startswith("fastrec.egg-info/")}
    return difference(names - added, {n for n in files if not REPOSITORY_ONLY.match(n)})


def main(*paths: str) -> int:
    files = tracked()
    failed = False
    for path in map(Path, paths):
        wrong = (check_wheel if path.suffix == ".whl" else check_sdist)(path, files)
        print(f"{path.name}: {path.stat().st_size:,} bytes, {len(wrong)} problems", *wrong, sep="\n    ")
        failed |= bool(wrong)
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
