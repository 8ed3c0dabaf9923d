"""What tests on a card share; modules that run on a fake have a ``cupy`` of their own."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module")
def cupy() -> Any:
    """CuPy with a card behind it; the test is skipped, saying so, where one is missing."""
    module = pytest.importorskip("cupy", reason="needs an NVIDIA GPU and CuPy", exc_type=ImportError)
    try:
        count = module.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error}")
    if not count:
        pytest.skip("needs an NVIDIA GPU")
    return module


@pytest.fixture(scope="module")
def torch() -> Any:
    """torch with CUDA; the test is skipped where it is missing."""
    module = pytest.importorskip("torch", reason="needs torch with CUDA")
    if not module.cuda.is_available():
        pytest.skip("needs torch with CUDA")
    return module
