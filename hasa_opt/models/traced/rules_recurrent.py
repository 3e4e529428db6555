"""Rules of recurrent layers and cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hasa_opt.models.traced.axes import Layout, dimension, multiply
from hasa_opt.models.traced.labels import Dims, Site, rule, uncut

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Operation -> number of gates that a layer stacks."""


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def recurrent(
    site: Site,
    input: Dims,
    hx: Any,
    params: Sequence[Dims],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    **arguments: Any,
) -> list[Dims]:
    """Cut all layers and directions alike: torch gives them one number of hidden units.

    States that are projected (``proj_size``) are units of their own.
    """
    directions = 2 if bidirectional else 1
    first, *others = list(hx) if site.operation == "lstm" else [hx]
    per_cell = len(params) // (num_layers * directions)
    cells = [params[i : i + per_cell] for i in range(0, len(params), per_cell)]
    state = first[-1]
    memory = others[0][-1] if others else state
    if per_cell % 2 == 0:
        site.join(memory, state)
    output = multiply(dimension(directions, inner=True), state)
    for number, cell in enumerate(cells):
        read = input[-1] if number < directions else output
        _couple(site, cell, read, state, memory, has_biases)
    results = [Dims([*input[:-1], output])]
    last = [state, memory][: len(site.shapes) - 1]
    shapes = zip(site.shapes[1:], last, strict=True)
    return results + [Dims([*uncut(shape[:-1]), layout]) for shape, layout in shapes]


def _couple(
    site: Site,
    cell: Sequence[Dims],
    read: Layout,
    state: Layout,
    memory: Layout,
    has_biases: bool,
) -> None:
    """Couple the weights of one layer and direction with what it reads and writes."""
    from_input, from_state, *others = cell
    biases, projection = (others[:2], others[2:]) if has_biases else ([], others)
    site.join(from_input[1], read)
    site.join(from_state[1], state)
    for stacked in (from_input, from_state, *biases):
        gates = dimension(GATES[site.operation], inner=True)
        site.join(stacked[0], multiply(gates, memory))
    for weight in projection:
        site.join(weight[0], state)
        site.join(weight[1], memory)


@rule("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def cell(
    site: Site,
    input: Dims,
    hx: Any,
    w_ih: Dims,
    w_hh: Dims,
    b_ih: Dims | None = None,
    b_hh: Dims | None = None,
) -> list[Dims]:
    """Read the input and the state, write the state."""
    states = list(hx) if site.operation == "lstm_cell" else [hx]
    hidden = states[0][-1]
    for state in states[1:]:
        site.join(state[-1], hidden)
    site.join(w_ih[1], input[-1])
    site.join(w_hh[1], hidden)
    for stacked in (w_ih, w_hh, b_ih, b_hh):
        if stacked is not None:
            gates = dimension(GATES[site.operation.removesuffix("_cell")], inner=True)
            site.join(stacked[0], multiply(gates, hidden))
    return [Dims([*uncut(shape[:-1]), hidden]) for shape in site.shapes]
