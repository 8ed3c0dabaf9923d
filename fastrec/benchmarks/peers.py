"""The other libraries: which are installed, at which version, and how each is told how many threads to use.

A peer is imported only when a case first asks for it, and never by ``import fastrec``.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from fastrec._core import checks


@dataclass(frozen=True)
class Peer:
    """A library that a case may be compared with."""

    name: str  # as users write it after --peers
    module: str
    package: str  # on PyPI
    # beside threadpoolctl, which reaches BLAS and OpenMP
    set_threads: Callable[[ModuleType, int], Any] | None = None
    slow_start: bool = False  # compiles for half a minute in every process


def _numba_threads(_: ModuleType, threads: int) -> None:
    import numba

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("numpy", "numpy", "numpy"),
        Peer("scipy", "scipy", "scipy"),
        Peer("sklearn", "sklearn", "scikit-learn"),
        Peer("faiss", "faiss", "faiss-cpu", lambda module, threads: module.omp_set_num_threads(threads)),
        Peer("implicit", "implicit", "implicit"),
        Peer("torch", "torch", "torch", lambda module, threads: module.set_num_threads(threads)),
        Peer("ranx", "ranx", "ranx", _numba_threads, slow_start=True),
        Peer("pytrec_eval", "pytrec_eval", "pytrec-eval-terrier"),
    )
}


class Peers:
    """The peers of one run: ``"auto"`` (all that are installed), ``"none"``, or names separated by commas.

    ``quick`` leaves those that take long to start out of ``"auto"``.
    ``ValueError`` names an unknown peer, ``ImportError`` one that was asked for and is not installed.
    """

    def __init__(self, wanted: str | Iterable[str], threads: int, *, quick: bool = False) -> None:
        names = [name.strip() for name in wanted.split(",")] if isinstance(wanted, str) else list(wanted)
        names = [name for name in names if name]
        if names == ["auto"]:
            names = [
                name for name, peer in PEERS.items() if installed(name) and not (quick and peer.slow_start)
            ]
        elif names == ["none"]:
            names = []
        for name in names:
            checks.choice(name, "peers", [*PEERS, "auto", "none"])
            if name in ("auto", "none"):
                raise ValueError(
                    "`peers` must be 'auto', 'none' or names separated by commas, not a mix of them"
                )
            if not installed(name):
                raise ImportError(f"peer {name!r} is not installed: pip install {PEERS[name].package}")
        self.names = names
        self.threads = threads
        self._modules: dict[str, ModuleType | None] = {}
        self.broken: dict[str, str] = {}  # installed, yet cannot be imported

    def get(self, name: str) -> ModuleType | None:
        """The module of a peer, with its threads set; ``None`` where it takes no part in this run."""
        peer = PEERS[name]
        if name not in self.names:
            return None
        if name not in self._modules:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    module = importlib.import_module(peer.module)
                if peer.set_threads is not None:
                    peer.set_threads(module, self.threads)
            except Exception as error:  # a broken installation of a peer is no reason to stop
                self.broken[name] = f"{type(error).__name__}: {error}"
                self._modules[name] = None
            else:
                self._modules[name] = module
        return self._modules[name]

    def versions(self) -> dict[str, str]:
        return {name: package_version(PEERS[name].package) or "?" for name in self.names}

    def limited(self) -> AbstractContextManager[Any]:
        """Hold every BLAS and OpenMP pool that is loaded now to this run's number of threads."""
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            return nullcontext()
        return threadpool_limits(limits=self.threads)


def pools() -> list[dict[str, Any]]:
    """The thread pools of BLAS and OpenMP that are loaded, as threadpoolctl sees them."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    kept = ("internal_api", "prefix", "version", "num_threads", "threading_layer", "architecture")
    return [{key: pool[key] for key in kept if key in pool} for pool in threadpool_info()]


def installed(name: str) -> bool:
    """Whether the peer can be found, without importing it."""
    return importlib.util.find_spec(PEERS[name].module) is not None


def package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
