"""Lets the tests of this directory say `from fakepod import ...`, and gives them a pod and a kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fakekernel import Clock, Kernel
from fakepod import Pod


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    folder = tmp_path / "pod"
    folder.mkdir()
    pod = Pod(folder)
    yield pod
    pod.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kernel_with(pod: Pod, clock: Clock) -> Callable[..., Kernel]:
    """A kernel with the tree mounted with these settings."""
    return lambda **settings: Kernel(pod, clock, **settings)


@pytest.fixture
def kernel(kernel_with: Callable[..., Any]) -> Any:
    return kernel_with()
