"""Compiled kernels.  No checks here: the operations in the layers above validate before they call.

The sources are in ``kernels/`` at the top of the project; ``cuda`` is that folder's own ``cuda``.
"""

from pathlib import Path as _Path

_checkout = _Path(__file__).parents[2] / "kernels"
if not _Path(__file__).with_name("cuda").is_dir() and (_checkout / "cuda" / "__init__.py").is_file():
    __path__.append(
        str(_checkout)
    )  # built in place: kernels/cuda has not been copied in here, as a wheel has it
