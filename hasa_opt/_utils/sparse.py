"""Sparse arrays of scipy, whose import takes a quarter of what the whole package does.

``scipy_sparse`` stands for ``scipy.sparse`` and imports it on first use: few problems hold any.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["is_sparse", "scipy_sparse"]


class _OnFirstUse:
    def __getattr__(self, name: str) -> Any:
        return getattr(import_module("scipy.sparse"), name)


if TYPE_CHECKING:
    import scipy.sparse as scipy_sparse
else:
    scipy_sparse = _OnFirstUse()


def is_sparse(value: object) -> bool:
    """Whether a value is a sparse array or matrix of scipy."""
    return "scipy.sparse" in sys.modules and bool(scipy_sparse.issparse(value))
