"""Which files are looked into for doctests: modules for tests of PyTorch only where it is installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["small_modules.py"]
