"""Exact k-nearest-neighbour search over rows.

Shapes
------
M : rows of the database, N : queries, D : features, k : neighbours.
"""

from __future__ import annotations

from lastlayer.neighbours.index import Index, Nearest
from lastlayer.neighbours.metrics import METRICS

__all__ = ["METRICS", "Index", "Nearest"]
