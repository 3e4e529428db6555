"""Stand-ins: operations that are recorded as one, which the tracer would take apart or fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["StandIns", "called", "operation_name"]


def _stand_in(name: str, schema: str, results: Callable[..., Any]) -> Any:
    """Make an operation to record in the place of another one; it is never run."""

    def unused(*arguments: Any) -> None:
        raise NotImplementedError

    made = torch.library.custom_op(f"hasa_opt::{name}", unused, mutates_args=(), schema=schema)
    made.register_fake(results)
    return made


def _layer(name: str, n_states: int) -> Any:
    """Stand in for a recurrent layer, of which the tracer would fix the time."""
    state = "Tensor" if n_states == 1 else "Tensor[]"

    def results(input: Tensor, hx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        states = [hx] if n_states == 1 else hx
        *_, bidirectional, _ = arguments
        last = states[0].shape[-1] * (2 if bidirectional else 1)
        return input.new_empty(*input.shape[:-1], last), *map(torch.empty_like, states)

    schema = (
        f"(Tensor input, {state} hx, Tensor[] params, bool has_biases, int num_layers, "
        "float dropout, bool train, bool bidirectional, bool batch_first) -> "
        f"({', '.join(['Tensor'] * (1 + n_states))})"
    )
    return _stand_in(name, schema, results)


_BATCH_NORM = _stand_in(
    "batch_norm",
    "(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
    "bool training, float momentum, float eps, bool cudnn_enabled) -> Tensor",
    lambda input, *arguments: torch.empty_like(input),
)
"""The tracer would follow each step of its formula, which takes half of the time."""


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Take the place of :func:`torch.nn.functional.batch_norm`."""
    normalised = input, weight, bias, running_mean, running_var, training, momentum, eps
    return _BATCH_NORM(*normalised, torch.backends.cudnn.enabled)


_LAYERS = {
    name: _layer(name, n_states)
    for name, n_states in {"lstm": 2, "gru": 1, "rnn_tanh": 1, "rnn_relu": 1}.items()
}
_LAYERS_OF = {getattr(torch._VF, name): made for name, made in _LAYERS.items()}
"""Function of torch -> what is recorded in its place."""

_OPERATIONS: dict[Any, Any] = {
    made._opoverload: getattr(torch.ops.aten, name).input for name, made in _LAYERS.items()
} | {_BATCH_NORM._opoverload: torch.ops.aten.batch_norm.default}
"""Operation in the graph -> the one that it stands for."""


class StandIns(TorchFunctionMode):
    """Records stand-ins: a recurrent layer as one operation, whatever the number of time steps."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.batch_norm:
            func = _batch_norm
        elif func in _LAYERS_OF and isinstance(args[3], bool):
            func = _LAYERS_OF[func]
        return func(*args, **(kwargs or {}))


def called(node: Node) -> Any:
    """Find what a node calls: an operation of torch, or a function of numbers."""
    target: Any = node.target
    return _OPERATIONS.get(target, target)


def operation_name(node: Node) -> str:
    """Name the operation of a node, without its overload."""
    return str(called(node)).removeprefix("aten.").partition(".")[0]
