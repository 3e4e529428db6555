"""The command ``hasa-opt flower``; what it writes needs the extra ``flower``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hasa_opt.cli.options import ClientOption, Embedding, Hidden, ModelName, TextOption, busy
from hasa_opt.cli.study import build_model, load_task, model_options, require_learning_side

__all__ = ["flower"]

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
    from hasa_opt.flower.new import AppData, write_app

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
