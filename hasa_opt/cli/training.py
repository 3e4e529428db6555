"""Options of the training, and what they make.

An option that is not given leaves its field at the default of the settings object, which cannot be
asked here: it lives on the learning side. A test compares what the help shows with the objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict, TypeVar

import typer

if TYPE_CHECKING:
    from hasa_opt.federated import Evaluation, Execution, LocalTraining, Participation, Server

__all__ = [
    "Aggregation",
    "BatchSize",
    "ClientsPerRound",
    "Engine",
    "EvaluateOn",
    "Executor",
    "Interpolation",
    "LearningRate",
    "LocalEpochs",
    "Optimizer",
    "OutputBias",
    "Settings",
    "WeightPower",
    "Workers",
    "settings",
]

Made = TypeVar("Made")


class Settings(TypedDict):
    """Settings objects by the keywords of a study."""

    training: LocalTraining
    server: Server
    evaluation: Evaluation
    participation: Participation
    execution: Execution


LocalEpochs = Annotated[
    int | None, typer.Option(min=1, help="Passes over a client's data per round; default: 1.")
]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Samples per step; default: 32.")]
LearningRate = Annotated[float | None, typer.Option(help="Step size; default: 0.02.")]
Optimizer = Annotated[str | None, typer.Option(help="adam or sgd; default: adam.")]
OutputBias = Annotated[str | None, typer.Option(help="shared or local; default: shared.")]
Aggregation = Annotated[str | None, typer.Option(help="full or selective; default: full.")]
WeightPower = Annotated[
    float | None,
    typer.Option(help="Clients weigh by their samples to this power; default: 1.0."),
]
EvaluateOn = Annotated[str | None, typer.Option(help="subnet or supernet; default: subnet.")]
Interpolation = Annotated[
    str | None,
    typer.Option(help="Share of the local model in a personal one, or validation; default: 0.75."),
]
ClientsPerRound = Annotated[
    int | None, typer.Option(min=1, help="Clients drawn in each round; default: all.")
]
Engine = Annotated[
    str | None, typer.Option(help="sequential, batched or auto; default: sequential.")
]
Executor = Annotated[
    str | None, typer.Option(help="local, or ray: on a Ray cluster; default: local.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: cores.")]


def settings(
    *,
    local_epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    optimizer: str | None = None,
    output_bias: str | None = None,
    aggregation: str | None = None,
    weight_power: float | None = None,
    evaluate_on: str | None = None,
    interpolation: str | None = None,
    clients_per_round: int | None = None,
    engine: str | None = None,
    executor: str | None = None,
    workers: int | None = None,
) -> Settings:
    """Settings objects of a study, by its keywords; what is None keeps its default."""
    from hasa_opt.federated import Evaluation, Execution, LocalTraining, Participation, Server

    return {
        "training": _made(
            LocalTraining,
            epochs=local_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            output_bias=output_bias,
        ),
        "server": _made(Server, aggregation=aggregation, weight_power=weight_power),
        "evaluation": _made(Evaluation, on=evaluate_on, interpolation=_number(interpolation)),
        "participation": _made(Participation, clients_per_round=clients_per_round),
        "execution": _made(Execution, engine=engine, executor=executor, workers=workers),
    }


def _made(kind: type[Made], **fields: Any) -> Made:
    """Make a settings object of the fields that were given."""
    return kind(**{name: value for name, value in fields.items() if value is not None})


def _number(text: str | None) -> float | str | None:
    """A number, or a name that the settings know or refuse."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
