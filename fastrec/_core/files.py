"""Writing files so that nothing is lost: to a temporary name in the same folder, then renamed into place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, delete it on failure.

    A reader sees the old file or the whole new one, never a part.  ``FileNotFoundError`` names the folder that is
    missing.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {folder} does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder")
    try:
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.", suffix=target.suffix)
    except PermissionError:  # it would name the temporary file
        raise PermissionError(f"cannot write {target}: permission denied in the folder {folder}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes it private; a plain open() would not
        temporary.replace(target)
    except BaseException:  # an interrupt, too, must leave nothing behind
        temporary.unlink(missing_ok=True)
        raise
