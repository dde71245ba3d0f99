"""On what a run was made: versions, processor, BLAS, git."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from lastlayer import __version__

_DISTRIBUTIONS = (
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "threadpoolctl",
    "jinja2",
    "torch",
    "click",
)


def environment() -> dict[str, str]:
    """Facts about this machine and installation, all as text.

    Nothing is sent anywhere and nothing that names the user is read.
    """
    facts = {
        "lastlayer": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }
    for name in _DISTRIBUTIONS:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    facts["blas"] = _blas()
    revision = _git_revision()
    if revision:
        facts["git"] = revision
    return facts


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _blas() -> str:
    import threadpoolctl

    pools = {
        f"{pool['internal_api']} {pool.get('version')} {pool.get('architecture', '')}".strip()
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    }
    return ", ".join(sorted(pools))


def _git_revision() -> str:
    """Revision of the current folder's repository, where git is there and this is one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
