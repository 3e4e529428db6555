"""Supernets: networks that can be cut to a width, how they are cut, and what their subnets cost.

Here belong architectures, cutting, profiles, and the supernets that are traced from a user's module
(:mod:`hasa_opt.models.traced`). They need torch and know tensors alone. Clients, tasks, rounds, the
training loop, and whatever chooses a width do not belong here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasa_opt._utils.registry import Registry
from hasa_opt.models.cnn import CNN
from hasa_opt.models.cuts import Coordinates, Cut, Kept
from hasa_opt.models.language import GRULanguageModel, LSTMLanguageModel
from hasa_opt.models.mlp import MLP
from hasa_opt.models.profile import (
    Profile,
    parameter_bytes,
    parameters,
    training_bytes,
    training_flops,
    units,
)
from hasa_opt.models.resnet import ResNet
from hasa_opt.models.seeding import fresh
from hasa_opt.models.subnets import block, coordinates, extract, locate, prefix, scatter
from hasa_opt.models.supernet import SupernetModel, TaskModel
from hasa_opt.models.training import scaled
from hasa_opt.models.transformer import TransformerLanguageModel

if TYPE_CHECKING:
    from hasa_opt.models.traced import Supernet

__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "Coordinates",
    "Cut",
    "GRULanguageModel",
    "Kept",
    "LSTMLanguageModel",
    "Profile",
    "ResNet",
    "Supernet",
    "SupernetModel",
    "TaskModel",
    "TransformerLanguageModel",
    "block",
    "coordinates",
    "extract",
    "fresh",
    "locate",
    "parameter_bytes",
    "parameters",
    "prefix",
    "scaled",
    "scatter",
    "training_bytes",
    "training_flops",
    "units",
]

MODELS: Registry[type[TaskModel]] = Registry(
    "models",
    {
        "lstm": LSTMLanguageModel,
        "gru": GRULanguageModel,
        "transformer": TransformerLanguageModel,
        "cnn": CNN,
        "resnet": ResNet,
        "mlp": MLP,
    },
)
"""Name of each model -> its class."""


def __getattr__(name: str) -> Any:
    if name == "Supernet":  # Reading a model's graph needs sympy, which takes a second to import.
        from hasa_opt.models.traced import Supernet

        return Supernet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
