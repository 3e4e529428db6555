"""The command ``hasa-opt study``; it needs the extra ``fl``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hasa_opt._utils.files import made_directory, writing
from hasa_opt.cli.options import (
    MENU,
    AsJson,
    Budget,
    ClientOption,
    Embedding,
    Hidden,
    ModelName,
    Score,
    TextOption,
    Widths,
    busy,
    print_json,
    split_names,
    split_numbers,
    training_bar,
)
from hasa_opt.errors import InputError, MissingExtraError
from hasa_opt.policies import POLICIES

if TYPE_CHECKING:
    from hasa_opt.models import SupernetModel
    from hasa_opt.study import Study
    from hasa_opt.tasks import Task

__all__ = ["build_model", "flower", "load_task", "model_options", "require_learning_side", "study"]


_COLUMNS = 100
_OUTPUTS = ("rounds.csv", "results.csv", "result.png", "report.html")

_NAMES = ", ".join(POLICIES)


def study(
    data: Annotated[Path | None, typer.Option(help="CSV of texts; default: --task.")] = None,
    text_column: TextOption = "text",
    client_column: ClientOption = "client",
    task: Annotated[str, typer.Option(help="docstrings, digits or domains.")] = "docstrings",
    model: ModelName = None,
    hidden: Hidden = 64,
    embedding: Embedding = 64,
    policies: Annotated[
        str, typer.Option(help=f"Comma-separated: {_NAMES}; with options as in hasa+personal.")
    ] = "uniform,hasa,reverse,optimal",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    rounds: Annotated[int, typer.Option(min=1)] = 10,
    rounds_by: Annotated[
        str, typer.Option(help="Which round counts: fixed (the last) or validation.")
    ] = "fixed",
    budget: Budget = 0.5,
    budget_in: Annotated[str, typer.Option(help="width or flops.")] = "width",
    widths: Widths = MENU,
    score: Score = "jensen_shannon",
    local_epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option()] = 0.02,
    optimizer: Annotated[str, typer.Option(help="adam or sgd.")] = "adam",
    aggregation: Annotated[str, typer.Option(help="full or selective.")] = "full",
    evaluate: Annotated[str, typer.Option(help="subnet or supernet.")] = "subnet",
    engine: Annotated[str, typer.Option(help="sequential, batched or auto.")] = "sequential",
    weight_power: Annotated[
        float, typer.Option(help="Clients weigh by their samples to this power.")
    ] = 1.0,
    output_bias: Annotated[str, typer.Option(help="shared or local.")] = "shared",
    mix: Annotated[
        str, typer.Option(help="Share of the local model in a personal one, or validation.")
    ] = "0.75",
    probe_rounds: Annotated[int, typer.Option(min=1, help="Rounds of the probe, if any.")] = 6,
    pilot_repeats: Annotated[
        int,
        typer.Option(min=0, help="Repetitions of the pilot that recommended asks for; 0: none."),
    ] = 4,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Clients drawn in each round; default: all.")
    ] = None,
    backend: Annotated[str, typer.Option(help="local, or ray: on a Ray cluster.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: cores.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory.")] = Path("study"),
    as_json: AsJson = False,
) -> None:
    """Train policies at a matched budget with matched seeds, and report what they are worth.

    Finished runs and rounds are kept in the output directory: an interrupted study goes on.
    """
    require_learning_side()
    from hasa_opt.study import Study

    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = _COLUMNS
    with busy("reading the data"):
        loaded = load_task(data, text_column, client_column, task)
    prepared = Study(
        loaded,
        build_model(loaded, model, hidden, embedding),
        policies=split_names(policies),
        seeds=range(first_seed, first_seed + seeds),
        rounds_by=rounds_by,  # type: ignore[arg-type]
        budget=budget,
        budget_in=budget_in,  # type: ignore[arg-type]
        widths=split_numbers(widths, "--widths"),
        rounds=rounds,
        local_epochs=local_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,  # type: ignore[arg-type]
        aggregation=aggregation,  # type: ignore[arg-type]
        evaluate=evaluate,  # type: ignore[arg-type]
        engine=engine,
        weight_power=weight_power,
        output_bias=output_bias,  # type: ignore[arg-type]
        mix=_mix(mix),  # type: ignore[arg-type]
        probe_rounds=probe_rounds,
        pilot_repeats=pilot_repeats,
        sample=sample,
        score=score,
        backend=backend,  # type: ignore[arg-type]
        command=shlex.join(["hasa-opt", *sys.argv[1:]]),
    )
    made_directory(output)
    for name in _OUTPUTS:
        if (output / name).is_dir():
            raise InputError(f"{output / name} is a folder: choose another --output")
    console.print(_fingerprint_lines(loaded), highlight=False, soft_wrap=True, markup=False)
    try:
        with busy("finding the widths of all policies"):
            prepared.prepare(output / "runs", workers=workers)
        console.print(prepared.allocation_table())
        with training_bar(console) as callbacks:
            done = prepared.run(workers=workers, directory=output / "runs", **callbacks)
    except KeyboardInterrupt:
        notice = f"interrupted; the same command goes on where it was, from {output / 'runs'}"
        Console(stderr=True, soft_wrap=True, highlight=False).print(notice, markup=False)
        raise typer.Exit(130) from None
    _finish_study(done, output, console, as_json)


def _mix(text: str) -> float | str:
    """A number, or a name that the study knows or refuses."""
    try:
        return float(text)
    except ValueError:
        return text


def _finish_study(done: Study, output: Path, console: Console, as_json: bool) -> None:
    from hasa_opt.study.plots import overview
    from hasa_opt.study.report import headline

    rounds, numbers, picture, report = (output / name for name in _OUTPUTS)
    done.to_csv(rounds)
    done.write_results(numbers)
    with writing(picture, "wb") as file:
        overview(done).savefig(file, dpi=110)
    done.report(report)
    console.print(done.comparison)
    console.print(done.table(), done.costs_table())
    lines = (
        headline(done),
        "",
        f"report: {report}",
        f"numbers and picture: {numbers}, {rounds}, {picture}",
    )
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
    if as_json:
        print_json(done.record())


def require_learning_side() -> None:
    """Refuse where the extra ``fl`` is not installed."""
    try:
        import hasa_opt.study.report
        import hasa_opt.study.study  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the study needs {error.name}, not installed here: pip install 'hasa-opt[fl]'"
        ) from error


def load_task(data: Path | None, text: str, client: str, name: str) -> Task:
    """Read a CSV of texts, or else an embedded task."""
    from hasa_opt import tasks

    return tasks.load(name) if data is None else tasks.text_csv(data, text=text, client=client)


def build_model(task: Task, name: str | None, hidden: int, embedding: int) -> SupernetModel:
    """Build the named model, or the usual one for the task's inputs."""
    from hasa_opt.models import MODELS

    name, options = model_options(task, name, hidden, embedding)
    return MODELS[name].for_data(task.train[0].inputs, task.n_outputs, **options)


def model_options(
    task: Task, name: str | None, hidden: int, embedding: int
) -> tuple[str, dict[str, int]]:
    """Name and options of the named model, or of the usual one for the task's inputs."""
    from hasa_opt.models import MODELS

    name = name or ("cnn" if task.train[0].inputs.is_floating_point() else "lstm")
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
    data: Annotated[Path | None, typer.Option(help="CSV of texts; default: --task.")] = None,
    text_column: TextOption = "text",
    client_column: ClientOption = "client",
    task: Annotated[str, typer.Option(help="docstrings, digits or domains.")] = "docstrings",
    model: ModelName = None,
    hidden: Hidden = 64,
    embedding: Embedding = 64,
) -> None:
    """Write a Flower app that trains a supernet on a task; `flwr run` runs it."""
    require_learning_side()
    from hasa_opt.flower.settings import AppData, write_app

    with busy("reading the data"):
        loaded = load_task(data, text_column, client_column, task)
        build_model(loaded, model, hidden, embedding)
    kind, options = model_options(loaded, model, hidden, embedding)
    source = AppData(task, data, text_column, client_column)
    write_app(directory, loaded.name, source, len(loaded), kind, **options)
    lines = (
        f"{directory}: a Flower app for {len(loaded)} clients of {loaded.name}",
        f"  {directory / 'supernet_app' / 'task.py'}: the model, and the data of each device",
        f"  {directory / 'pyproject.toml'}: the settings",
        f"simulate it: cd {directory} && make simulate",
    )
    Console(highlight=False, soft_wrap=True).print("\n".join(lines), markup=False)
