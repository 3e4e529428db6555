"""Settings of a Flower run: the table ``[tool.flwr.app.config.hasa]`` of a project."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch.optim import Optimizer

from hasa_opt._utils.files import entries, made_directory, write_text
from hasa_opt.clients.counts import Counts
from hasa_opt.errors import InputError
from hasa_opt.federated import SCHEMES, Evaluation, LocalTraining, Participation, Server
from hasa_opt.federated.personal import resolved
from hasa_opt.federated.schedules import Schedule
from hasa_opt.federated.settings import INTERPOLATION, MAX_UPDATE_NORM, check_choice
from hasa_opt.flower.messages import in_words
from hasa_opt.models import SupernetModel
from hasa_opt.models.optimizers import Given
from hasa_opt.policies import MENU, RECOMMENDED, read_policy
from hasa_opt.policies.policy import PERSONAL
from hasa_opt.rules.scores import SCORES

__all__ = ["PREFIX", "AppData", "Settings", "write_app"]


PREFIX = "hasa."
"""With which the names of the settings begin in Flower's run configuration."""

_AT_LEAST_0 = (
    *("seed", "clients_per_round", "epsilon", "max_update_norm", "clip_norm"),
    *("deadline_s", "budget_s", "budget_j"),
)

TESTED = ("subnet", PERSONAL)
"""Models on which devices are tested."""

_POSITIVE = ("clients", "rounds", "evaluate_every", "node_timeout_s", "round_timeout_s")


@dataclass(frozen=True)
class Settings:
    """How a Flower run allocates, trains and stores.

    In the configuration of a project their names have hyphens: ``batch-size``.

    Parameters
    ----------
    clients : int
        Nodes that the server waits for.
    rounds : int
    policy : str
        Name in :data:`hasa_opt.policies.POLICIES`; by default the integer program with the HASA
        utility. Those that need a probe are refused. What belongs to its method, such as the
        average of ``heterofl``, holds whatever is given below; nobody tests the uncut supernet,
        which no device gets. "recommended" decides about ``output_bias``, ``evaluate_on`` and
        ``interpolation`` itself.
    budget : float
        Sample-weighted mean width.
    deadline_s : float
        No device gets a width with which a round takes it longer, by the clock that it tells; 0:
        any, but for those that tell a deadline of their own.
    budget_s, budget_j : float
        Seconds and joules that a round may take of all devices together, by their clocks; 0: any.
        Only policies that solve the integer program keep them.
    widths : str
        The menu, separated by commas or spaces.
    score : str
        Name in :data:`~hasa_opt.rules.scores.SCORES`.
    aggregation : str
    weight_power, max_update_norm : float
        As for :class:`hasa_opt.federated.Server`; a norm of 0 accepts any finite update.
    clients_per_round : int
        Clients drawn in each round; 0: all.
    epochs, batch_size : int
    learning_rate : float
    optimizer : str, class or partial
    schedule : callable, optional
        Both as for :class:`hasa_opt.federated.LocalTraining`.
    server_optimizer : class with arguments, optional
        As for :class:`hasa_opt.federated.Server`. Schedules, and optimizers that are no names, are
        given in Python, to :func:`server_app` and :func:`client_app`.
    clip_norm, proximal : float
        Neither clips nor pulls at 0.
    scaler : bool
        As for :class:`hasa_opt.federated.LocalTraining`.
    seed : int
    output_bias : str
        As for :class:`hasa_opt.federated.LocalTraining`: "local" keeps it on the devices.
    evaluate_every : int
        Clients test the new supernet after every so many rounds, and after the last.
    evaluate_on : str
        "subnet", or "personal": the subnet mixed with the model that the device trained last,
        which it keeps.
    interpolation : str
        Share of that model, a number from 0 to 1, or "validation": chosen after each test by the
        validation data of all devices.
    epsilon, delta : float
        Histograms leave the devices with the noise of one such private release of one sample;
        ``epsilon`` 0: as they are.
    reallocate : bool
        Whether widths are allocated again, within what is left of the budget, where a node joins,
        leaves or returns; not by policies that decide while clients train, or give them units or
        models of their own.
    node_timeout_s : float
        How long the server waits for nodes, and for their profiles.
    round_timeout_s : float
        How long it waits for the replies of a round.
    checkpoint : str
        Directory on the server; a run that was killed goes on from there. Empty: none.
    output : str
        Directory on the server for the history of the run, which
        :meth:`hasa_opt.federated.History.load` reads. Empty: none.

    Raises
    ------
    InputError
        For an unknown name or a value that breaks a rule.
    """

    clients: int = 2
    rounds: int = 10
    policy: str = "optimal"
    budget: float = 0.5
    deadline_s: float = 0.0
    budget_s: float = 0.0
    budget_j: float = 0.0
    widths: str = ", ".join(map(str, MENU))
    score: str = "jensen_shannon"
    aggregation: str = "full"
    weight_power: float = 1.0
    max_update_norm: float = MAX_UPDATE_NORM
    clients_per_round: int = 0
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.02
    optimizer: Given = "adam"
    schedule: Schedule | None = None
    server_optimizer: partial[Optimizer] | None = None
    clip_norm: float = 0.0
    proximal: float = 0.0
    scaler: bool = False
    output_bias: str = "shared"
    seed: int = 0
    evaluate_every: int = 1
    evaluate_on: str = "subnet"
    interpolation: str = str(INTERPOLATION)
    epsilon: float = 0.0
    delta: float = 1e-5
    reallocate: bool = True
    node_timeout_s: float = 300.0
    round_timeout_s: float = 3600.0
    checkpoint: str = ""
    output: str = ""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise InputError(f"{_shown(name)} = {getattr(self, name)} must be above 0")
        for name in _AT_LEAST_0:
            if not getattr(self, name) >= 0:
                raise InputError(f"{_shown(name)} = {getattr(self, name)} must be at least 0")
        policy = read_policy(self.policy)
        if policy.options:
            raise InputError(f"policy {self.policy!r} has options: give settings of their own")
        check_choice("scheme", policy.scheme, SCHEMES)
        check_choice("score", self.score, SCORES)
        self.menu  # noqa: B018
        check_choice("evaluate-on", self.evaluate_on, TESTED)
        self.training, self.server, self.participation, self.evaluation  # noqa: B018

    @classmethod
    def read(
        cls, configuration: Mapping[str, object], options: Mapping[str, Any] = MappingProxyType({})
    ) -> Self:
        """Read the settings among Flower's run configuration; other entries are the user's own.

        Parameters
        ----------
        configuration : mapping of str to value
            By names such as ``"hasa.batch-size"``.
        options : mapping of str to any
            Settings in Python, by their names here, which hold whatever the configuration says.

        Raises
        ------
        InputError
            If a setting is unknown, of another type, or invalid.
        """
        known = [each.name for each in fields(cls)]
        for name in options:
            check_choice("option", name, known)
        kinds = {_shown(each.name): type(each.default) for each in fields(cls)}
        kinds = {name: kind for name, kind in kinds.items() if kind in _WORDS}
        given: dict[str, Any] = {}
        for key, value in configuration.items():
            if not key.startswith(PREFIX):
                continue
            name = key.removeprefix(PREFIX)
            check_choice("setting", name, kinds)
            kind = kinds[name]
            if isinstance(value, int) and not isinstance(value, bool) and kind is float:
                value = float(value)
            if type(value) is not kind:
                raise InputError(f"{key} = {value!r} is of another type: give {_WORDS[kind]}")
            given[name.replace("-", "_")] = value
        return cls(**{**given, **options})

    @property
    def menu(self) -> tuple[float, ...]:
        """Widths of the menu."""
        try:
            return tuple(float(word) for word in self.widths.replace(",", " ").split())
        except ValueError as error:
            raise InputError(
                f'widths = "{self.widths}" are not all numbers ({error}): write "0.2, 0.5, 0.8"'
            ) from error

    @property
    def training(self) -> LocalTraining:
        """How clients train."""
        given = LocalTraining(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            schedule=self.schedule,
            clip_norm=self.clip_norm or None,
            proximal=self.proximal,
            scaler=self.scaler,
            output_bias=self.output_bias,  # type: ignore[arg-type]
        )
        return read_policy(self.policy).changed("training", given)

    @property
    def server(self) -> Server:
        """How the server averages."""
        given = Server(
            aggregation=self.aggregation,
            weight_power=self.weight_power,
            max_update_norm=self.max_update_norm or None,
            optimizer=self.server_optimizer,
        )
        return read_policy(self.policy).changed("server", given)

    @property
    def participation(self) -> Participation:
        """How many clients are drawn in each round."""
        return Participation(clients_per_round=self.clients_per_round or None)

    @property
    def evaluation(self) -> Evaluation:
        """Which models clients are tested on: never the uncut supernet, which they do not get."""
        try:
            share = (
                "validation" if self.interpolation == "validation" else float(self.interpolation)
            )
        except ValueError as error:
            raise InputError(
                f'interpolation = "{self.interpolation}" is no number: write one from 0 to 1, or '
                '"validation"'
            ) from error
        given = Evaluation(
            on=self.evaluate_on,  # type: ignore[arg-type]
            interpolation=share,  # type: ignore[arg-type]
            every=self.evaluate_every,
        )
        found = read_policy(self.policy).changed("evaluation", given)
        return found if found.on in TESTED else replace(found, on="subnet")

    def resolved(self, counts: Counts | None, model: SupernetModel) -> Settings:
        """The settings with those about which the policy "recommended" decides itself."""
        policy = read_policy(self.policy)
        if policy.rule != RECOMMENDED:
            return self
        bias = resolved(policy, counts, model).changed("training", self.training).output_bias
        return replace(self, evaluate_on=PERSONAL, interpolation="validation", output_bias=bias)

    def record(self) -> dict[str, Any]:
        """What identifies a run; where it is stored and how long it waits do not."""
        kept = {each.name: in_words(getattr(self, each.name)) for each in fields(self)}
        for name in ("node_timeout_s", "round_timeout_s", "checkpoint", "output"):
            del kept[name]
        return kept


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _shown(name: str) -> str:
    return name.replace("_", "-")


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
    encoding, delimiter : str, optional
        How it is written. Default: it is detected.
    """

    task: str = "docstrings"
    file: Path | None = None
    text: str = "text"
    client: str = "client"
    encoding: str | None = None
    delimiter: str | None = None


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
    if directory.exists() and (not directory.is_dir() or entries(directory)):
        raise InputError(f"{directory} is not empty: choose a new directory")
    values = {
        "name": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app",
        "clients": clients,
        "settings": _settings(clients),
        "data": None if data.file is None else _quoted(str(data.file.resolve())),
        "task": _quoted(data.task),
        "text": _quoted(data.text),
        "client": _quoted(data.client),
        "encoding": None if data.encoding is None else _quoted(data.encoding),
        "delimiter": None if data.delimiter is None else json.dumps(data.delimiter),
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
        made_directory(path.parent)
        write_text(path, text)
    return sorted(texts)


def _settings(clients: int) -> dict[str, str]:
    """All settings as TOML: Flower changes only those that a project lists."""
    return {
        _shown(name): _quoted(value) if isinstance(value, str) else json.dumps(value)
        for name, value in asdict(Settings(clients=clients)).items()
        if value is not None
    }


def _quoted(text: str) -> str:
    """Python literal with double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
