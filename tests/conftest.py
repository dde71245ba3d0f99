"""Which files are looked into for doctests, and fixtures for the tests of networks and of experiments."""

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"

# modules for tests of PyTorch only where it is installed
collect_ignore = [] if find_spec("torch") else ["small_modules.py"]


@pytest.fixture
def one_torch_thread() -> None:
    """Other libraries of the process set the number of OpenMP threads as well, and sums depend on it."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import an experiment as its script does, from its own folder, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (EXPERIMENTS / f"{name}.py").is_file():
            del sys.modules[name]
