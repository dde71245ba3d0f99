"""Which files are looked into for doctests, and a fixture for the tests of networks."""

from importlib.util import find_spec

import pytest

# modules for tests of PyTorch only where it is installed
collect_ignore = [] if find_spec("torch") else ["small_modules.py"]


@pytest.fixture
def one_torch_thread() -> None:
    """Other libraries of the process set the number of OpenMP threads as well, and sums depend on it."""
    import torch

    torch.set_num_threads(1)
