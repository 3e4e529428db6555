"""Capture: what a module computes, as a graph of operations with symbolic batch and time."""

from __future__ import annotations

import builtins
import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import SymInt, Tensor, nn
from torch._ops import HigherOrderOperator
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind, InputSpec, OutputKind
from torch.fx import Node
from torch.utils import _pytree as pytree

from hasa_opt._utils.showing import first_line
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import Inputs, describe, each, predict, tensors
from hasa_opt.models.seeding import seeded_rng
from hasa_opt.models.traced.stand_ins import StandIns

_TENSORS = {
    InputKind.PARAMETER,
    InputKind.BUFFER,
    InputKind.CONSTANT_TENSOR,
}


@dataclass(frozen=True, eq=False)
class Capture:
    """The operations of a module in one mode, training or evaluation.

    Parameters
    ----------
    nodes : list of torch.fx.Node
        The calls, in the order of execution, none of them idle.
    placeholders : dict of torch.fx.Node to str
        Each placeholder that stands for a tensor -> name of that tensor within the module.
    constants : dict of str to Tensor
        Tensors that the module holds outside ``state_dict()``, by name.
    inputs : list of torch.fx.Node
        The placeholders of the inputs, in the order of :func:`~hasa_opt.models.inputs.tensors`.
    outputs : list of torch.fx.Node
        The nodes of the tensors that it gives.
    structure : torch.utils._pytree.TreeSpec
        How they make up its output.
    """

    nodes: list[Node]
    placeholders: dict[Node, str]
    constants: dict[str, Tensor]
    inputs: list[Node]
    outputs: list[Node]
    structure: pytree.TreeSpec

    def tensors_in_use(self) -> list[str]:
        """Name the module's tensors in the order in which the calls read them."""
        read = [source for node in self.nodes for source in node.all_input_nodes]
        return [self.placeholders[source] for source in read if source in self.placeholders]


class Outputs(nn.Module):
    """A module of one argument that gives tensors alone: its logits, or all that it returns."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Inputs) -> Any:
        """Call the module."""
        output = predict(self.module, inputs)
        if isinstance(output, Mapping):
            if isinstance(output.get("logits"), Tensor):
                return output["logits"]
            output = {name: part for name, part in output.items() if isinstance(part, Tensor)}
        leaves = pytree.tree_leaves(output)
        if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
            found = [type(leaf).__name__ for leaf in leaves] or "nothing"
            raise InputError(
                f"{type(self.module).__name__} returns {type(output).__name__} of {found}, but a "
                "supernet gives tensors: return one, or a tuple or dict of tensors alone"
            )
        return output


def capture(module: nn.Module, example: Inputs, *, training: bool) -> Capture:
    """Record the operations of a module.

    Raises
    ------
    InputError
        If the operations depend on the data or on the batch size, or the output is not a tensor.
    """
    wrapped = Outputs(copied(module)).train(training)
    if training:
        _try(wrapped, example)
    shapes = _varying(wrapped, example)
    with _tracing():
        try:
            program = export(wrapped, (example,), dynamic_shapes=(shapes,), strict=False)
        except InputError:
            raise
        except Exception as error:  # torch.export raises errors of many kinds, its own and others.
            _try(wrapped, example)
            raise InputError(
                f"{type(module).__name__} cannot be traced: its operations must not depend on the "
                f"values of the input, nor on the batch size ({first_line(error)})"
            ) from error
    captured = _read(program, "training" if training else "evaluation")
    for node in captured.inputs:
        batch = node.meta["val"].shape[0]
        if not isinstance(batch, SymInt) or batch.node.expr.is_Integer:
            raise InputError(
                f"{type(module).__name__} fixes the batch size to {batch}: take it from "
                "x.shape[0], and let no operation depend on its value"
            )
    return captured


def _try(module: Outputs, example: Inputs) -> None:
    """Refuse an example that the module cannot process, before it is traced."""
    with seeded_rng(0), torch.no_grad():
        try:
            copied(module)(example)
        except InputError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise InputError(
                f"{type(module.module).__name__} cannot process the example input, "
                f"{describe(example)}: give a batch as in training ({first_line(error)})"
            ) from error


def module_path(node: Node) -> str:
    """Find the path of the module that an operation belongs to; "" is the root."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0].removeprefix("module").removeprefix(".") if stack else ""


def _varying(module: nn.Module, example: Inputs) -> Any:
    """Let the batch vary and, where the module allows, the time; images keep their size."""
    lengths = {part.shape[1] for part in tensors(example) if part.dim() in (2, 3)}
    fixed = {length for length in lengths if not _takes_other_lengths(module, example, length)}

    def varying(part: Tensor) -> tuple[Any, ...]:
        n_varying = 2 if part.dim() in (2, 3) and part.shape[1] not in fixed else 1
        return (Dim.AUTO,) * n_varying + (Dim.STATIC,) * (part.dim() - n_varying)

    return each(varying, example)  # type: ignore[arg-type]


def _takes_other_lengths(module: nn.Module, example: Inputs, length: int) -> bool:
    """Whether the module runs on inputs that are one step shorter, or longer."""
    for steps in (range(length - 1), [*range(length), 0]):

        def taken(part: Tensor, steps: Sequence[int] = steps) -> Tensor:
            rows = torch.tensor(list(steps), dtype=torch.int64, device=part.device)
            return part.index_select(1, rows) if part.shape[1:2] == (length,) else part

        with seeded_rng(0), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                copied(module)(each(taken, example))
            except Exception:  # Whatever the module raises.
                continue
        return True
    return False


def _inline(graph_module: Any) -> None:
    """Put operations under ``no_grad()`` among the others; each is marked with its mode."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.target is not torch.ops.higher_order.wrap_with_set_grad_enabled:
            continue
        enabled, held, *operands = node.args
        part = graph_module.get_submodule(held.target)
        _inline(part)
        placeholders = [source for source in part.graph.nodes if source.op == "placeholder"]
        copies = dict(zip(placeholders, operands, strict=True))
        with graph.inserting_before(node):
            results = graph.graph_copy(part.graph, copies)
        for source, copied_node in copies.items():
            if source not in placeholders:
                copied_node.meta.setdefault("grad", enabled)
        for item in list(node.users):
            item.replace_all_uses_with(results[item.args[1]])
            graph.erase_node(item)
        graph.erase_node(node)
        graph.erase_node(held)


def _read(program: ExportedProgram, mode: str) -> Capture:
    signature = program.graph_signature
    _inline(program.graph_module)
    for node in program.graph.nodes:
        if node.op == "get_attr" or isinstance(node.target, HigherOrderOperator):
            raise InputError(
                f"{node.target} in module {module_path(node)!r} is an operation on parts of the "
                "graph (such as cond()): leave it out of forward()"
            )
    tensors = {spec.arg.name: spec for spec in signature.input_specs if spec.kind in _TENSORS}
    names = {
        name: f"_{mode}_{name}" if _is_constant(spec) else spec.target.removeprefix("module.")
        for name, spec in tensors.items()
    }
    placeholders: dict[Node, str] = {}
    inputs: list[Node] = []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if node.name in names:
                placeholders[node] = names[node.name]
            else:
                inputs.append(node)
    changed = [
        spec.target for spec in signature.output_specs if spec.kind != OutputKind.USER_OUTPUT
    ]
    (output_node,) = [node for node in program.graph.nodes if node.op == "output"]
    outputs = output_node.args[0]
    if changed:
        raise InputError(
            f"the module replaces the buffers {changed}: a supernet updates buffers in place"
        )
    constants = {
        names[name]: program.constants[spec.target]
        for name, spec in tensors.items()
        if _is_constant(spec)
    }
    structure = program.call_spec.out_spec
    assert structure is not None
    nodes = _needed(program, outputs)
    return Capture(nodes, placeholders, constants, inputs, list(outputs), structure)


def _is_constant(spec: InputSpec) -> bool:
    return spec.kind == InputKind.CONSTANT_TENSOR


def _needed(program: ExportedProgram, outputs: Sequence[Node]) -> list[Node]:
    """List the calls that the outputs depend on or that change a tensor in place."""
    used, kept = set(outputs), []
    for node in reversed(program.graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if node.op == "call_function" and (node in used or (schema and schema.is_mutable)):
            used.update(node.all_input_nodes)
            kept.append(node)
    return kept[::-1]


@contextmanager
def _symbolic_len() -> Iterator[None]:
    """Let ``len(x)`` of a tensor be its ``x.shape[0]``, which is a symbol while it is traced."""
    plain = builtins.len

    def length(sized: Any, /) -> Any:
        return sized.shape[0] if isinstance(sized, Tensor) and sized.dim() else plain(sized)

    builtins.len = length
    try:
        yield
    finally:
        builtins.len = plain


@contextmanager
def _tracing() -> Iterator[None]:
    """Trace with the plain kernels, without a stack for each call, and leave torch as it was."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    settings: Any = torch.fx.config
    without_stacks = getattr(settings, "do_not_emit_stack_traces", False)
    settings.do_not_emit_stack_traces = True
    try:
        with warnings.catch_warnings(), torch.enable_grad(), _symbolic_len(), StandIns():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        settings.do_not_emit_stack_traces = without_stacks


def copied(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """Copy a module, and what it computed and holds, such as a normalised weight, as a value.

    Parameters
    ----------
    module : torch.nn.Module
    memo : dict of int to object, optional
        What takes the place of some of its tensors, as in :func:`copy.deepcopy`.

    Raises
    ------
    InputError
        If it cannot be copied.
    """
    known = {} if memo is None else memo
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                known.setdefault(id(value), value.detach().clone())
    try:
        return copy.deepcopy(module, known)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{type(module).__name__} cannot be copied ({first_line(error)}): a supernet is made "
            "of a copy, so hold nothing in the module that copy.deepcopy() refuses"
        ) from error


def without_weights(module: nn.Module) -> nn.Module:
    """Copy a module without the values of its parameters; buffers keep theirs."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
    return copied(module, memo)


def draw(prototype: nn.Module) -> dict[str, Tensor]:
    """Draw initial weights for a module; children first, so that a parent has the last word.

    Returns
    -------
    dict
        ``state_dict()`` of a freshly initialised module, on the CPU.

    Raises
    ------
    InputError
        If some parameter is initialised by no method of its module.
    """
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.full_like(p, math.nan, device="cpu"), p.requires_grad)
        for p in prototype.parameters()
    }
    module = copied(prototype, memo)
    parts = list(module.modules())[::-1]
    with torch.no_grad():
        for part in parts:
            for name in ("reset_parameters", "_reset_parameters"):
                if callable(getattr(part, name, None)):
                    getattr(part, name)()
        for part in parts:
            if callable(getattr(part, "_init_weights", None)):  # The convention of transformers.
                part.apply(part._init_weights)  # type: ignore[arg-type]
    for name, parameter in module.named_parameters():
        if parameter.isnan().any():
            owner = name.rpartition(".")[0]
            raise InputError(
                f"nothing initialises {name}: define reset_parameters() in the class of "
                f"{f'module {owner!r}' if owner else 'the module itself'}, which draws it anew"
            )
    return module.state_dict()
