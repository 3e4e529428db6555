"""Stand-ins: operations that are recorded as one, which the tracer would take apart or fix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.overrides import TorchFunctionMode

__all__ = ["Recurrent", "called", "operation_name"]


def _stand_in(name: str, n_states: int) -> Any:
    """Make an operation to record in the place of ``aten::name.input``, which fixes the time."""
    state = "Tensor" if n_states == 1 else "Tensor[]"
    results = ", ".join(["Tensor"] * (1 + n_states))
    schema = (
        f"(Tensor input, {state} hx, Tensor[] params, bool has_biases, int num_layers, "
        f"float dropout, bool train, bool bidirectional, bool batch_first) -> ({results})"
    )

    def unused(*arguments: Any) -> None:
        raise NotImplementedError

    def shapes(input: Tensor, hx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        states = [hx] if n_states == 1 else hx
        *_, bidirectional, _ = arguments
        last = states[0].shape[-1] * (2 if bidirectional else 1)
        output = input.new_empty(*input.shape[:-1], last)
        return output, *map(torch.empty_like, states)

    made = torch.library.custom_op(f"hasa_opt::{name}", unused, mutates_args=(), schema=schema)
    made.register_fake(shapes)
    return made


_RECORDED = {
    name: _stand_in(name, n_states)
    for name, n_states in {"lstm": 2, "gru": 1, "rnn_tanh": 1, "rnn_relu": 1}.items()
}
_FUNCTIONS = {getattr(torch._VF, name): made for name, made in _RECORDED.items()}
"""Function of torch -> what is recorded in its place."""

_OPERATIONS: dict[Any, Any] = {
    made._opoverload: getattr(torch.ops.aten, name).input for name, made in _RECORDED.items()
}
"""Operation in the graph -> the one that it stands for."""


class Recurrent(TorchFunctionMode):
    """Records each recurrent layer as one operation, whatever the number of time steps."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FUNCTIONS and isinstance(args[3], bool):
            func = _FUNCTIONS[func]
        return func(*args, **(kwargs or {}))


def called(node: Node) -> Any:
    """Find what a node calls: an operation of torch, or a function of numbers."""
    target: Any = node.target
    return _OPERATIONS.get(target, target)


def operation_name(node: Node) -> str:
    """Name the operation of a node, without its overload."""
    return str(called(node)).removeprefix("aten.").partition(".")[0]
