"""Identity: what a run is told apart by, and whether a checkpoint is of the same run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

import numpy as np
import torch

from hasa_opt._utils import VERSION
from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.files import sha256
from hasa_opt._utils.showing import in_a_word
from hasa_opt._utils.streams import STREAMS
from hasa_opt.errors import InputError
from hasa_opt.federated.alone import ALONE
from hasa_opt.federated.events import DECISIONS
from hasa_opt.federated.history import History
from hasa_opt.federated.history_files import to_json
from hasa_opt.models.states import as_array
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.policies.subnets import Subnets, describe_subnets
from hasa_opt.tasks.task import Task


def describe_versions() -> dict[str, Any]:
    """Versions that the bits of a run hang on, in terms that JSON can hold."""
    return {"versions": {"hasa_opt": VERSION, "torch": torch.__version__}, "streams": STREAMS}


def describe_run(
    model: SupernetModel, task: Task, subnets: Subnets, **settings: Any
) -> dict[str, Any]:
    """What a run is told apart by, in terms that JSON can hold.

    Parameters
    ----------
    model : SupernetModel
    task : Task
    subnets : Subnets
    **settings
        Settings objects by the names that they have in :func:`hasa_opt.federated.run`.
    """
    return (
        describe_versions()
        | describe_model(model)
        | describe_task(task)
        | describe_subnets(subnets)
        | describe_settings(**settings)
    )


def describe_model(model: SupernetModel) -> dict[str, Any]:
    """What tells a supernet and its initial weights from others, in terms that JSON can hold."""
    weights = model.state_dict().values()
    return {
        "model": type(model).__name__,
        "sizes": dict(model.sizes),
        "architecture sha256": model.architecture,
        "initial weights sha256": sha256(map(as_array, weights)),
    }


def describe_task(task: Task) -> dict[str, Any]:
    """What tells a task's data from others, in terms that JSON can hold."""
    return {
        "task": task.name,
        "client_names": list(task.client_names),
        "samples": task.samples.tolist(),
        "data sha256": task.checksum,
        "fingerprint": dict(task.fingerprint),
        **task.problem.describe(),
    }


def describe_settings(**settings: Any) -> dict[str, Any]:
    """Fields of settings objects, as ``"training.epochs"``, in terms that JSON can hold."""
    found = {
        f"{group}.{field.name}": _told(getattr(values, field.name))
        for group, values in settings.items()
        for field in fields(values)
    }
    plain: dict[str, Any] = json.loads(to_json(found))
    return plain


def _told(value: Any) -> Any:
    """A value of a settings object in terms that JSON can hold: functions and classes by name."""
    if callable(value):
        return in_a_word(value)
    if hasattr(value, "record"):
        return value.record()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def check_same_run(
    place: Path, found: History, settings: Mapping[str, Any], widths: FloatArray
) -> None:
    """Refuse the checkpoint of another run, and say what differs; warn of other versions.

    Parameters
    ----------
    place : path
        Where the checkpoint lies.
    found : History
        What it holds.
    settings : mapping of str to any
        What the history's metadata must say. ``rounds``, the number of rounds in all, may have
        grown since. How often clients were trained alone is measured, and no setting; so is what an
        allocator has decided.
    widths : (n_clients,) floats
        The allocation.

    Raises
    ------
    InputError
        If it is another run's, or holds more rounds than are asked for.
    """
    asked: dict[str, Any] = json.loads(to_json(dict(settings)))
    stored = dict(found.metadata)
    _check_streams(place, stored.get("streams", 1))
    rounds, versions = asked.pop("rounds"), asked.pop("versions")
    for name in ("rounds", ALONE, DECISIONS):
        stored.pop(name, None)
    written_by = stored.pop("versions", {})
    show = _short().repr
    names = [name for name in {**asked, **stored} if asked.get(name) != stored.get(name)]
    differences = [
        f"{name} {show(stored.get(name))}, not {show(asked.get(name))}" for name in names
    ]
    if "allocator" not in asked and not np.array_equal(found.widths, widths):
        differences.append(f"widths {show(found.widths.tolist())}, not {show(widths.tolist())}")
    if differences:
        raise InputError(
            f"{place} is of another run, with {'; '.join(differences)}: give the arguments of that "
            "run, or choose another directory"
        )
    if found.rounds > rounds:
        raise InputError(
            f"{place} holds {found.rounds} rounds, but rounds = {rounds}: ask for at least as many"
        )
    if written_by != versions:
        warnings.warn(
            f"{place} was written with {_listed(written_by)}, and this is {_listed(versions)}: the "
            "rounds to come may differ from those of one run",
            stacklevel=2,
        )


def _check_streams(place: Path, streams: int) -> None:
    """Refuse a checkpoint whose run would go on with other random numbers."""
    if streams != STREAMS:
        raise InputError(
            f"{place} was written by {'an older' if streams < STREAMS else 'a newer'} version of "
            f"hasa_opt, which draws other random numbers (streams {streams}, here {STREAMS}): "
            "finish the run with that version, or begin it anew in another directory"
        )


def _listed(versions: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in versions.items())


def _short() -> Repr:
    """Shorten long lists, but neither settings nor checksums."""
    short = Repr()
    short.maxdict, short.maxstring, short.maxother = 20, 80, 80
    return short
