"""A Flower app for a task, written from templates."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from hasa_opt.errors import InputError
from hasa_opt.flower.settings import Settings

__all__ = ["AppData", "write_app"]

_SUFFIX = ".jinja"


@dataclass(frozen=True)
class AppData:
    """Where the data of an app come from.

    Parameters
    ----------
    task : str
        Name in :data:`hasa_opt.tasks.TASKS`; of no effect with a file.
    file : Path, optional
        CSV of texts.
    text, client : str
        Columns of the file.
    """

    task: str = "docstrings"
    file: Path | None = None
    text: str = "text"
    client: str = "client"


def write_app(
    directory: Path, name: str, data: AppData, clients: int, model: str, **options: int
) -> list[Path]:
    """Write a Flower app that trains a supernet on a task.

    Parameters
    ----------
    directory : Path
        New or empty.
    name : str
        Of the task; the project is called so.
    data : AppData
    clients : int
        Clients of the task.
    model : str
        Name in :data:`hasa_opt.models.MODELS`.
    **options
        Of the model.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    InputError
        If the directory holds something.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory} is not empty: choose a new directory")
    values = {
        "name": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app",
        "clients": clients,
        "settings": _settings(clients),
        "data": None if data.file is None else _quoted(str(data.file.resolve())),
        "task": _quoted(data.task),
        "text": _quoted(data.text),
        "client": _quoted(data.client),
        "model": _quoted(model),
        "options": "".join(f", {name}={value}" for name, value in options.items()),
    }
    environment = Environment(
        loader=PackageLoader("hasa_opt.flower", "template"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    texts = {
        directory / name.removesuffix(_SUFFIX): environment.get_template(name).render(values)
        for name in environment.list_templates(filter_func=lambda name: name.endswith(_SUFFIX))
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(texts)


def _settings(clients: int) -> dict[str, str]:
    """All settings as TOML: Flower changes only those that a project lists."""
    return {
        name.replace("_", "-"): _quoted(value) if isinstance(value, str) else json.dumps(value)
        for name, value in asdict(Settings(clients=clients)).items()
    }


def _quoted(text: str) -> str:
    """Python literal with double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
