"""Kinds of averages: from the weighted sums of what clients hold to the server's next values.

An average is called for each learned tensor with four things of its shape or none: ``sums``, the
sum of weight times value over the clients that hold a coordinate; ``held``, the sum of these
weights, above 0; ``total``, the weight of all clients; ``server``, the values before the round. All
are in double precision. Coordinates that nobody holds keep the server's value whatever it gives.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hasa_opt._utils.registry import Registry

__all__ = ["AGGREGATIONS", "full", "selective"]

Average = Callable[[Tensor, Tensor, float, Tensor], Tensor]


def full(sums: Tensor, held: Tensor, total: float, server: Tensor) -> Tensor:
    """Fill what a client does not hold with the server's value (arXiv:2606.07621)."""
    return (sums + (total - held) * server) / total


def selective(sums: Tensor, held: Tensor, total: float, server: Tensor) -> Tensor:
    """Average over the clients that hold a coordinate (HeteroFL, arXiv:2010.01264)."""
    return sums / held


AGGREGATIONS: Registry[Average] = Registry("aggregations", {"full": full, "selective": selective})
"""Kinds of averages by name."""
