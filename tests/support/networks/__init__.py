"""Eighty real networks of many families: what :class:`hasa_opt.models.Supernet` is tried on."""

from __future__ import annotations

from . import from_pytorchcv, from_transformers, images, sequences
from .listed import Example, Network

__all__ = ["NETWORKS", "Example", "Network"]

NETWORKS = {
    network.name: network
    for part in (images, sequences, from_pytorchcv, from_transformers)
    for network in part.NETWORKS
}
"""By name."""
