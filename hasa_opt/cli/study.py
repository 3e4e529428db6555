"""The command ``hasa-opt study``; it needs the extra ``fl``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hasa_opt._utils.files import made_directory, writing
from hasa_opt._utils.installing import needing
from hasa_opt._utils.progress import Callbacks, training_bar
from hasa_opt.cli.options import (
    MENU,
    AsJson,
    Budget,
    ClientOption,
    Delimiter,
    Embedding,
    Encoding,
    Hidden,
    ModelName,
    Reading,
    Score,
    TextOption,
    Widths,
    busy,
    check_reachable,
    print_json,
    printing,
    reading,
    say,
    source_of,
    split_names,
    split_numbers,
)
from hasa_opt.cli.training import (
    Aggregation,
    BatchSize,
    ClientsPerRound,
    Engine,
    EvaluateOn,
    Executor,
    Interpolation,
    LearningRate,
    LocalEpochs,
    Optimizer,
    OutputBias,
    WeightPower,
    Workers,
    settings,
)
from hasa_opt.errors import InputError
from hasa_opt.policies import POLICIES, read_policy

if TYPE_CHECKING:
    from hasa_opt.models import SupernetModel
    from hasa_opt.study import Study
    from hasa_opt.tasks import Task

__all__ = ["build_model", "flower", "load_task", "model_options", "require_learning_side", "study"]


_OUTPUTS = ("rounds.csv", "results.csv", "result.png", "report.html")
"""Files that a study writes into its directory."""

_NAMES = ", ".join(POLICIES)

DataFile = Annotated[Path | None, typer.Option(help="CSV of texts; default: --task.")]
TaskName = Annotated[
    str, typer.Option(help="Embedded task, such as docstrings, digits or domains.")
]
Policies = Annotated[
    str, typer.Option(help=f"Comma-separated: {_NAMES}; with options as in hasa+personal.")
]
RoundsBy = Annotated[str, typer.Option(help="Which round counts: fixed (the last) or validation.")]


def study(
    data: DataFile = None,
    text_column: TextOption = "text",
    client_column: ClientOption = "client",
    task: TaskName = "docstrings",
    model: ModelName = None,
    hidden: Hidden = 64,
    embedding: Embedding = 64,
    policies: Policies = "uniform,hasa,reverse,optimal,local,recommended",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    rounds_by: RoundsBy = "fixed",
    budget: Budget = 0.5,
    budget_in: Annotated[str, typer.Option(help="width or flops.")] = "width",
    widths: Widths = MENU,
    score: Score = "jensen_shannon",
    local_epochs: LocalEpochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    optimizer: Optimizer = None,
    output_bias: OutputBias = None,
    aggregation: Aggregation = None,
    weight_power: WeightPower = None,
    evaluate_on: EvaluateOn = None,
    interpolation: Interpolation = None,
    clients_per_round: ClientsPerRound = None,
    engine: Engine = None,
    executor: Executor = None,
    workers: Workers = None,
    probe_rounds: Annotated[int, typer.Option(min=1, help="Rounds of the probe, if any.")] = 6,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory.")] = Path("study"),
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    as_json: AsJson = False,
) -> None:
    """Train policies at a matched budget with matched seeds, and report what they are worth.

    Finished runs and rounds are kept in the output directory: an interrupted study goes on.
    """
    menu, names = split_numbers(widths, "--widths"), split_names(policies)
    check_reachable(budget, max(menu, default=1.0) if budget_in == "width" else 1.0)
    _check_policies(names)
    require_learning_side()
    from hasa_opt.study import Study

    with busy("reading the data"):
        loaded = load_task(data, text_column, client_column, task, reading(encoding, delimiter))
    prepared = Study(
        loaded,
        build_model(loaded, model, hidden, embedding),
        policies=names,
        seeds=range(first_seed, first_seed + seeds),
        rounds_by=rounds_by,  # type: ignore[arg-type]
        budget=budget,
        budget_in=budget_in,  # type: ignore[arg-type]
        widths=menu,
        rounds=rounds,
        probe_rounds=probe_rounds,
        score=score,
        command=shlex.join(["hasa-opt", *sys.argv[1:]]),
        **settings(
            local_epochs=local_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=optimizer,
            output_bias=output_bias,
            aggregation=aggregation,
            weight_power=weight_power,
            evaluate_on=evaluate_on,
            interpolation=interpolation,
            clients_per_round=clients_per_round,
            engine=engine,
            executor=executor,
            workers=workers,
        ),
    )
    _run(prepared, output, as_json)


def _check_policies(names: list[str]) -> None:
    """Refuse a policy that is not known, before anything is read."""
    for name in names:
        read_policy(name)


def _run(prepared: Study, output: Path, as_json: bool) -> None:
    """Train, and write and print what was measured."""
    console = printing(stderr=as_json)
    made_directory(output)
    for name in _OUTPUTS:
        if (output / name).is_dir():
            raise InputError(f"{output / name} is a folder: choose another --output")
    console.print(_fingerprint_lines(prepared.task), highlight=False, soft_wrap=True, markup=False)
    runs = output / "runs"
    try:
        with busy("finding the widths of all policies"):
            prepared.prepare(runs)
        console.print(prepared.allocation_table())
        with _shown(console) as callbacks:
            done = prepared.run(directory=runs, progress=False, **callbacks)
    except KeyboardInterrupt:
        notice = f"interrupted; the same command goes on where it was, from {runs}"
        say(notice, stderr=True)
        raise typer.Exit(130) from None
    _finish(done, output, console, as_json)


@contextmanager
def _shown(console: Console) -> Iterator[Callbacks]:
    """Show how far the runs are: by a bar, or by a line each where there is no terminal."""
    if console.is_terminal:
        with training_bar(console) as callbacks:
            yield callbacks
    else:
        yield {"on_progress": lambda runs, of: console.print(f"training: {runs} of {of}")}


def _finish(done: Study, output: Path, console: Console, as_json: bool) -> None:
    from hasa_opt.study.claims import headline

    rounds, numbers, picture, report = (output / name for name in _OUTPUTS)
    done.to_csv(rounds)
    done.write_results(numbers)
    with writing(picture, "wb") as file:
        done.plot().savefig(file, dpi=110)
    done.report(report)
    console.print(done.comparison)
    console.print(done.table(), done.costs_table())
    if done.by_rounds.trained:
        console.print(done.rounds_table())
    lines = (
        headline(done.results, done.budget),
        "",
        f"report: {report}",
        f"numbers and picture: {numbers}, {rounds}, {picture}",
    )
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
    if as_json:
        print_json(done.record())


def require_learning_side() -> None:
    """Refuse where the extra ``fl`` is not installed."""
    with needing("the study", extra="fl"):
        import hasa_opt.study.report
        import hasa_opt.study.study  # noqa: F401


def load_task(data: Path | None, text: str, client: str, name: str, written: Reading) -> Task:
    """Read a CSV of texts, or else an embedded task."""
    from hasa_opt import tasks

    if data is None:
        return tasks.load(name)
    return tasks.text_csv(source_of(data), text=text, client=client, **written)


def build_model(task: Task, name: str | None, hidden: int, embedding: int) -> SupernetModel:
    """Build the named model, or the usual one for the task's inputs."""
    from hasa_opt.models import MODELS

    name, options = model_options(task, name, hidden, embedding)
    return MODELS[name].for_data(task.train[0].tensor, task.n_outputs, **options)


def model_options(
    task: Task, name: str | None, hidden: int, embedding: int
) -> tuple[str, dict[str, int]]:
    """Name and options of the named model, or of the usual one for the task's inputs."""
    from hasa_opt.models import MODELS

    name = name or ("cnn" if task.train[0].tensor.is_floating_point() else "lstm")
    if name not in MODELS:
        raise InputError(f"model {name!r} is not known: choose from {', '.join(MODELS)}")
    return name, {"hidden": hidden, "embedding": embedding} if name in ("lstm", "gru") else {}


def _fingerprint_lines(task: Task) -> str:
    lines = [f"{name}: {value}" for name, value in task.fingerprint.items()]
    return "\n".join([repr(task), *lines])


flower = typer.Typer(help="Train on Flower: simulated, or on real devices.", no_args_is_help=True)


@flower.callback()
def _group() -> None:
    """Train on Flower: simulated, or on real devices."""


@flower.command()
def new(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty.")],
    data: DataFile = None,
    text_column: TextOption = "text",
    client_column: ClientOption = "client",
    task: TaskName = "docstrings",
    model: ModelName = None,
    hidden: Hidden = 64,
    embedding: Embedding = 64,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Write a Flower app that trains a supernet on a task; `flwr run` runs it."""
    require_learning_side()
    from hasa_opt.flower.settings import AppData, write_app

    with busy("reading the data"):
        written = reading(encoding, delimiter)
        loaded = load_task(data, text_column, client_column, task, written)
        build_model(loaded, model, hidden, embedding)
    kind, options = model_options(loaded, model, hidden, embedding)
    source = AppData(task, data, text_column, client_column, **written)
    write_app(directory, loaded.name, source, len(loaded), kind, **options)
    lines = (
        f"{directory}: a Flower app for {len(loaded)} clients of {loaded.name}",
        f"  {directory / 'supernet_app' / 'task.py'}: the model, and the data of each device",
        f"  {directory / 'pyproject.toml'}: the settings",
        f"simulate it: cd {shlex.quote(str(directory))} && make simulate",
    )
    say("\n".join(lines))
