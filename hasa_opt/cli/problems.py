"""The problem that the options of a command describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hasa_opt._utils.cells import distinct_names, numbers
from hasa_opt._utils.checks import FloatArray, float_array, listed
from hasa_opt._utils.names import tidy
from hasa_opt._utils.rational import written
from hasa_opt._utils.tables import read_table
from hasa_opt.cli.options import MENU, Reading, assignments, source_of, split_numbers
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import Counts
from hasa_opt.clients.files import read
from hasa_opt.errors import InputError
from hasa_opt.problem import cost, utility
from hasa_opt.problem.budgets import Budget
from hasa_opt.problem.choices import Coverage
from hasa_opt.problem.groups import Capacity, SameOption
from hasa_opt.problem.limits import Constraint, Fairness
from hasa_opt.problem.menu import WIDTH, Menu
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.utility import Utility
from hasa_opt.rules.scores import SCORES

__all__ = ["Asked", "counts_of", "read_values", "scores_of", "width_of"]

_SHARE = "0.5"
"""Budget of a menu of widths where none is given: the paper's."""

_FAMILIES: dict[str, Callable[[FloatArray], Utility]] = {
    "hasa": utility.hasa,
    "saturating": utility.saturating,
}
"""Utilities that are functions of the scores."""

_FAIR = "alpha_fair"
_LOGARITHMIC = ("hasa", _FAIR)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of whom: the options of a command that make a problem.

    Attributes
    ----------
    clients : Path
    options : Path or None
        A file of options; None: widths are chosen.
    utilities : Path or None
        A table of utilities, in the place of ``utility``.
    full, widths, cost_name : str or None
    score, utility : str
    budget, limit, coverage : list of str, or None
    same_option, capacity, fairness : str or None
    reading : Reading
        How the files are written.
    """

    clients: Path
    options: Path | None
    utilities: Path | None
    full: str | None
    widths: str | None
    cost_name: str | None
    score: str
    utility: str
    budget: list[str] | None
    limit: list[str] | None
    coverage: list[str] | None
    same_option: str | None
    capacity: str | None
    fairness: str | None
    reading: Reading

    @cached_property
    def problem(self) -> AllocationProblem:
        """The problem.

        Raises
        ------
        InputError
            For options that do not go together, or a file that breaks a rule, with the line.
        """
        self._refuse_mixtures()
        menu = self._menu(self.fleet)
        fair = [] if self.fairness is None else [Fairness(self.fairness)]
        limits = [*self._absolute(menu), *self._coverage(menu), *self._groups()]
        return AllocationProblem.build(
            self.fleet,
            menu=menu,
            budget=dict(self._shares(menu)),
            utility=self._worth(menu),
            constraints=[*limits, *fair],
        )

    @cached_property
    def fleet(self) -> Clients:
        """The clients of the file."""
        return self._file[0]

    @cached_property
    def scores(self) -> FloatArray:
        """Their scores: computed from the counts, or a column of the file."""
        if self.score in SCORES:
            return scores_of(self.fleet, self.score, self.clients)
        return float_array(self._file[1][tidy(self.score)], f"column {self.score!r}")

    @property
    def is_paper(self) -> bool:
        """Whether the paper's rule answers the same question: widths, and what they are worth."""
        plain = self.options is None and self.utilities is None
        return plain and self.utility == "hasa" and self.cost_name in (None, "width")

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        return [path for path in (self.clients, self.options, self.utilities) if path is not None]

    def _refuse_mixtures(self) -> None:
        alone = {"--widths": self.widths, "--cost": self.cost_name}
        beside = {"--full": self.full, "--limit": self.limit}
        without = self.options is None
        for name, given in (beside if without else alone).items():
            if given:
                if not without:
                    raise InputError(f"{name} does not go with --options: leave one of them out")
                raise InputError(
                    f"{name} needs --options FILE.csv, which says what each option is and costs; a "
                    "budget of widths is a share, such as --budget 0.5"
                )
        if self.utilities is not None and self.utility != "hasa":
            raise InputError("--utility and --utilities say the same twice: leave one of them out")
        if self.utilities is None and self.utility not in (*_FAMILIES, _FAIR):
            raise InputError(
                f"--utility {self.utility!r} is not known: choose from "
                f"{listed((*_FAMILIES, _FAIR))}, or give a table, --utilities FILE.csv"
            )

    def _menu(self, clients: Clients) -> Menu:
        if self.options is not None:
            return Menu.read_csv(source_of(self.options), clients, full=self.full, **self.reading)
        widths = split_numbers(self.widths or MENU, "--widths")
        return Menu.of_widths(widths, cost=cost.named(self.cost_name or "width"))

    def _shares(self, menu: Menu) -> Iterator[tuple[str, float]]:
        """Budgets that are shares, by resource."""
        usual = [_SHARE] if self.options is None else []
        given = assignments(self.budget or usual)
        for text, resource, value in _by_resource(given, "--budget", "SHARE", "0.5", menu):
            if value.isdecimal() and int(value) > 1 and self.options is not None:
                raise InputError(
                    f"--budget {text}: a budget is a share of what everybody costs at --full, such "
                    f"as 0.5; in units of {resource!r} say --limit {resource}={value}"
                )
            if self.full is None and self.options is not None:
                raise InputError(
                    f"--budget {text}: a share of what everybody costs at which option? Name it by "
                    f"--full, or say --limit {resource}=UNITS"
                )
            yield resource, float(value)

    def _absolute(self, menu: Menu) -> Iterator[Constraint]:
        """Budgets in whole units."""
        given = assignments(self.limit)
        for text, resource, value in _by_resource(given, "--limit", "UNITS", "5000", menu):
            if not value.isdecimal():
                raise InputError(
                    f"--limit {text}: a limit is a whole number in the unit of {resource!r}; a "
                    f"share of what everybody costs at --full is --budget {resource}=0.5"
                )
            yield Budget(resource, int(value))

    def _coverage(self, menu: Menu) -> Iterator[Constraint]:
        """Limits of coverage, one for each attribute."""
        given: dict[str, dict[float, float]] = {}
        for text in assignments(self.coverage):
            place, _, share = text.rpartition("=")
            name, colon, value = place.rpartition(":")
            numbers = _is_number(value) and _is_number(share)
            if not numbers or (colon and not name.strip()):
                raise InputError(
                    f"--coverage {text}: give WIDTH=SHARE, such as 0.8=0.1, or "
                    "ATTRIBUTE:VALUE=SHARE, such as epochs:2=0.1"
                )
            attribute, level = tidy(name) if colon else WIDTH, float(value)
            level = int(level) if level.is_integer() else level
            shares = given.setdefault(attribute, {})
            if level in shares:
                raise InputError(
                    f"--coverage names {attribute} {written(level)} twice: leave one out"
                )
            shares[level] = float(share)
        for attribute, shares in given.items():
            if attribute not in menu.attributes:
                raise InputError(
                    f"--coverage names attribute {attribute!r}, which the options do not have "
                    f"({listed(menu.attributes) or 'they have none'}): give them a column of it"
                )
            yield Coverage(shares, attribute)

    @cached_property
    def _file(self) -> tuple[Clients, dict[str, Any]]:
        """The clients, the columns that group them and that of their scores."""
        grouped = [self.same_option, None if self._room is None else self._room[0]]
        others = [tidy(name) for name in grouped if name is not None]
        values = [] if self.score in SCORES else [tidy(self.score)]
        source = source_of(self.clients)
        try:
            columns, groups = read(source, others=others, values=values, **self.reading)
        except InputError as error:
            if not values or f"column {values[0]!r}" not in str(error):
                raise
            raise InputError(
                f"--score {self.score!r} is not one of {', '.join(SCORES)}, nor a column of the "
                f"clients: {error}"
            ) from error
        return Clients(columns.pop("samples"), **columns), groups

    @cached_property
    def _room(self) -> tuple[str, float] | None:
        """Column of the groups and the width of all of them together."""
        if self.capacity is None:
            return None
        column, _, room = self.capacity.rpartition("=")
        if not _is_number(room):
            raise InputError(f"--capacity {self.capacity}: give COLUMN=WIDTH, such as site=1.0")
        return column, float(room)

    def _groups(self) -> Iterator[Constraint]:
        """Limits on the groups that a column of the clients names."""
        groups = self._file[1]
        if self.same_option is not None:
            yield SameOption(groups[tidy(self.same_option)])
        if self._room is not None:
            yield Capacity(groups[tidy(self._room[0])], self._room[1])

    def _worth(self, menu: Menu) -> Utility:
        if self.utilities is not None:
            columns, values = read_values(self.utilities, self.fleet, self.reading, blank=np.nan)
            return utility.measured(values[:, _columns(self.utilities, columns, menu)])
        self._check_widths(menu)
        if self.utility == _FAIR:
            return utility.alpha_fair()
        return _FAMILIES[self.utility](self.scores)

    def _check_widths(self, menu: Menu) -> None:
        """Refuse a utility that is a function of the width where options have none."""
        remedy = "or give a table of what each option is worth, --utilities FILE.csv"
        if WIDTH not in menu.attributes:
            raise InputError(
                f"{self.options} has no column {WIDTH!r}, which --utility {self.utility} is a "
                f"function of: add one, {remedy}"
            )
        if self.utility in _LOGARITHMIC and not menu.widths.all():
            name = menu.names[int(menu.widths.argmin())]
            raise InputError(
                f"--utility {self.utility} takes the logarithm of the width, which option {name!r} "
                f"does not have: choose --utility saturating, {remedy}"
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _by_resource(
    given: Sequence[str], option: str, amount: str, example: str, menu: Menu
) -> Iterator[tuple[str, str, str]]:
    """What an option says, with the resource and the number in it, each resource once."""
    seen = set()
    for text in given:
        name, equals, value = text.rpartition("=")
        if not _is_number(value):
            raise InputError(f"{option} {text}: {_form(name or text, amount, example, menu)}")
        if not equals and len(menu.resources) > 1:
            raise InputError(
                f"{option} {text}: the options have the resources {listed(menu.resources)}: say "
                f"which, {option} {menu.resources[0]}={example}"
            )
        resource = tidy(name) if equals else menu.resources[0]
        if resource not in menu.resources:
            raise InputError(
                f"{option} names resource {resource!r}, which no option costs: choose from "
                f"{listed(menu.resources)}"
            )
        if resource in seen:
            raise InputError(f"{option} names {resource!r} twice: leave one out")
        seen.add(resource)
        yield text, resource, value.strip()


def _form(name: str, amount: str, example: str, menu: Menu) -> str:
    """What an option takes, in words, for who gave a name that may be a resource."""
    named = tidy(name) in menu.resources
    if len(menu.resources) == 1 and not named:
        return f"give {amount}, such as {example}"
    resource = tidy(name) if named else menu.resources[0]
    return f"give RESOURCE={amount}, such as {resource}={example}"


def counts_of(clients: Clients, path: Path) -> Counts:
    """Label counts of clients that were read from a file.

    Raises
    ------
    InputError
        If the file has none.
    """
    if clients.counts is None:
        raise InputError(
            f"{path} has no label counts to score: add columns count:LABEL, or name, label, count"
        )
    return clients.counts


def scores_of(clients: Clients, name: str, path: Path) -> FloatArray:
    """Scores of clients that were read from a file, by the name of the score.

    Raises
    ------
    InputError
        If it is not known, or the file has no counts.
    """
    if name not in SCORES:
        raise InputError(f"--score {name!r} is not known: choose from {', '.join(SCORES)}")
    return SCORES[name](counts_of(clients, path))


def read_values(
    path: Path, clients: Clients, reading: Reading, *, blank: float | None = None
) -> tuple[list[str], FloatArray]:
    """Read a table of values: a row for each client, its name first.

    Parameters
    ----------
    path : Path
    clients : Clients
    reading : Reading
    blank : float, optional
        What an empty cell stands for. Default: it is refused.

    Returns
    -------
    columns : list of str
    values : (n_clients, n_columns) floats
        In the order of the clients.

    Raises
    ------
    InputError
        Naming the line, or the client that is missing.
    """
    table = read_table(source_of(path), needed=("name",), **reading)
    first, columns = table.header[0], table.header[1:]
    names = distinct_names(table, first)
    known = clients.all_names
    if set(names) != set(known):
        alone = listed(sorted(set(known) ^ set(names)), repr)
        raise InputError(
            f"{path} and the clients file must name the same clients, once each: see {alone}"
        )
    at = {name: row for row, name in enumerate(names)}
    values = [numbers(table, column, blank=blank) for column in columns]
    return columns, np.array(values).reshape(len(columns), len(names)).T[[at[c] for c in known]]


def _columns(path: Path, columns: Sequence[str], menu: Menu) -> list[int]:
    """Column of each option."""
    found: dict[int, int] = {}
    for column, name in enumerate(columns):
        is_width = menu.only_widths and name not in menu.names
        key = width_of(path, name) if is_width else name
        option = int(menu.select(key, str(path)).argmax())
        if option in found:
            raise InputError(f"{path} has two columns for {menu.label(option)}: leave one out")
        found[option] = column
    missing = [menu.label(option) for option in range(len(menu)) if option not in found]
    if missing:
        raise InputError(
            f"{path} has no column for {listed(missing)}: after the names of the clients, give a "
            f"column for each of {listed(menu.names)}"
        )
    return [found[option] for option in range(len(menu))]


def width_of(path: Path, name: str) -> float:
    """The width that a column of a file is named for.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return float(name)
    except ValueError:
        raise InputError(
            f"{path}: column {name!r} is no width: the header is name and then the widths, such as "
            "name,0.2,0.5,0.8"
        ) from None
