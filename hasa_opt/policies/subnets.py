"""What each client trains: widths, and which units of the supernet they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, float_array, listed, number
from hasa_opt._utils.installing import needing
from hasa_opt._utils.rational import written
from hasa_opt._utils.units import ROUNDING
from hasa_opt.errors import InputError
from hasa_opt.problem.checks import within_caps
from hasa_opt.problem.matching import allocation_rows
from hasa_opt.problem.result import Allocation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["DRAWN_WIDTHS", "EXECUTED", "PER_CLIENT", "Subnets", "describe_subnets", "read_subnets"]

EXECUTED = ("width", "epochs")
"""Attributes of options that a training loop executes; all others are only priced."""

PER_CLIENT = ("widths", "mean_widths", "epochs", "deployed", "starts", "models")
"""Fields of subnets that hold a value for each client."""

_BESIDE_WIDTHS = PER_CLIENT[1:]

DRAWN_WIDTHS = "ordered_dropout"
"""The scheme under which each batch trains a drawn width (FjORD, arXiv:2102.13451)."""


@dataclass(frozen=True, eq=False)
class Subnets:
    """What each client trains and deploys.

    Attributes
    ----------
    widths : (n_clients,) floats in [0, 1]
        Width of each client's subnet; 0 leaves the client out of training, which needs
        ``deployed``.
    scheme : str
        Which units a subnet is made of; name in :data:`hasa_opt.federated.SCHEMES`.
    mean_widths : (n_clients,) floats, optional
        With the scheme "ordered_dropout": mean of the widths that each client's batches train.
        They lie as far below the mean as the client's width lies above it.
    epochs : (n_clients,) integers, optional
        Local epochs of each client; None: those of the run's settings.
    deployed : (n_clients,) floats in (0, 1], optional
        Width at which each client deploys, and is tested on, the supernet. Default: the width
        that it trains. Clients that are left out count in every mean by what they deploy.
    starts : (n_clients,) floats in [0, 1), optional
        With the scheme "prefix": share of the units that lie before each client's, so that groups
        of clients can have units of their own; see :func:`hasa_opt.models.block`. Default: 0.
    share : float, optional
        What the subnets spend of a budget's resource, as a share of what everybody would spend on
        the whole supernet. None: not known.
    models : (n_clients,) integers, optional
        Which model each client trains: those with the same number share one, and no unit with
        others. All begin with the weights of the supernet. A client alone with its number sends
        nothing. Default: all share the supernet.
    reason : str
        Why, in words, where an allocator has decided it.
    later : Subnets, optional
        What the clients train in the last rounds, each from a round of its own on: where a wanted
        width lies between two that the network has, the narrower comes first.
    later_share : (n_clients,) floats in [0, 1], optional
        Share of the rounds in which each client trains ``later``, rounded down to whole rounds.

    Raises
    ------
    InputError
        If a width is not in [0, 1], a client that trains nothing deploys nothing either, a mean is
        not within reach of its client's width, a block goes beyond the supernet, the share is
        negative, or what comes later is of another kind.

    Examples
    --------
    >>> Subnets([0.25, 1.0], scheme="rolling").widths.tolist()
    [0.25, 1.0]
    """

    widths: FloatArray
    scheme: str = "prefix"
    mean_widths: FloatArray | None = None
    share: float | None = None
    epochs: IntArray | None = None
    deployed: FloatArray | None = None
    starts: FloatArray | None = None
    models: IntArray | None = None
    reason: str = ""
    later: Subnets | None = None
    later_share: FloatArray | None = None

    def __post_init__(self) -> None:
        widths = _checked(self.widths, "widths", zero=self.deployed is not None)
        object.__setattr__(self, "widths", widths)
        if self.deployed is not None:
            object.__setattr__(self, "deployed", self._per_client(self.deployed, "deployed"))
        if self.epochs is not None:
            object.__setattr__(self, "epochs", self._whole_epochs(self.epochs))
        if not isinstance(self.scheme, str):
            raise InputError(f'scheme {self.scheme!r} must be a name, such as "prefix"')
        if self.mean_widths is not None:
            means = _checked(self.mean_widths, "mean_widths")
            self._check_means(widths, means)
            object.__setattr__(self, "mean_widths", means)
        if self.starts is not None:
            object.__setattr__(self, "starts", self._within(self.starts))
        if self.share is not None and number(self.share, "share") < 0:
            raise InputError(f"share {self.share} must be at least 0")
        if self.models is not None:
            object.__setattr__(self, "models", self._numbers(self.models))
        self._check_later()

    @property
    def deploys(self) -> FloatArray:
        """Width at which each client deploys, ``(n_clients,)``."""
        return self.widths if self.deployed is None else self.deployed

    @property
    def has_blocks(self) -> bool:
        """Whether some clients hold units that others of their width do not."""
        return self.starts is not None and np.unique(self.starts).size > 1

    def changed_from(self, past: Subnets) -> BoolArray:
        """Who trains something else than before, ``(n_clients,)``; what comes later is left out.

        Rows behind those of before are newcomers, who do.
        """
        changed, known = np.ones(self.widths.shape, dtype=np.bool_), len(past.widths)
        if self.scheme == past.scheme:
            pairs = zip(self._trained, past._trained, strict=True)
            changed[:known] = np.any([now[:known] != before for now, before in pairs], axis=0)
        return changed

    @property
    def _trained(self) -> tuple[FloatArray | IntArray, ...]:
        """What says how each client trains, with what None stands for."""
        none = np.zeros(self.widths.shape)
        columns = (self.mean_widths, self.epochs, self.starts)
        models = none - 1 if self.models is None else self.models
        return (self.widths, models, *(none if each is None else each for each in columns))

    def start(self, client: int) -> float:
        """Share of the units that lie before a client's."""
        return 0.0 if self.starts is None else float(self.starts[client])

    @property
    def wanted(self) -> FloatArray:
        """Mean width of each client over the rounds, ``(n_clients,)``."""
        if self.later is None or self.later_share is None:
            return self.widths
        return self.widths + self.later_share * (self.later.widths - self.widths)

    def last_of(self, rounds: int) -> Subnets:
        """What holds in the last of so many rounds."""
        return self.during(rounds - 1, rounds)

    def during(self, number: int, rounds: int) -> Subnets:
        """What holds in a round.

        Parameters
        ----------
        number : int
            From 0.
        rounds : int
            Of the whole run.

        Returns
        -------
        Subnets
            Without anything later.
        """
        if self.later is None or self.later_share is None:
            return self
        last = np.floor(self.later_share * rounds + ROUNDING)
        return self._mixed(self.later, rounds - number <= last)

    def _mixed(self, other: Subnets, rows: BoolArray) -> Subnets:
        """What ``other`` says of some clients, and this of the rest."""
        columns = {name: getattr(self, name) for name in PER_CLIENT}
        mixed: dict[str, Any] = {
            name: None if mine is None else np.where(rows, getattr(other, name), mine)
            for name, mine in columns.items()
        }
        return replace(self, **mixed, later=None, later_share=None)

    def plot(
        self, names: Sequence[str] | None = None, *, ax: Axes | None = None
    ) -> Figure | SubFigure:
        """Draw the units of each client as an interval of the supernet, those of a group together.

        Clients of one model whose blocks begin at the same unit are a group, of one colour. Where
        something comes later, ``last_of(rounds)`` draws that.

        Parameters
        ----------
        names : n_clients strings, optional
            Default: their rows.
        ax : matplotlib Axes, optional
            Where to draw. Default: a figure of its own.

        Returns
        -------
        matplotlib Figure or SubFigure
            The one that was drawn in.

        Raises
        ------
        InputError
            For a scheme whose units change from round to round, or other names than clients.
        MissingExtraError
            If matplotlib is absent, with the command that installs it.
        """
        if self.scheme != "prefix":
            raise InputError(
                f"the units of the scheme {self.scheme!r} change from round to round: there is a "
                'picture of "prefix" alone'
            )
        shown = list(map(str, range(self.widths.size))) if names is None else list(names)
        if len(shown) != self.widths.size:
            raise InputError(
                f"{len(shown)} names for {self.widths.size} clients: give one for each"
            )
        with needing("Subnets.plot()"):
            from matplotlib.figure import Figure

        size = (4.8, 1.0 + 0.22 * len(shown))
        axes = Figure(figsize=size, layout="constrained").add_subplot() if ax is None else ax
        alike = np.zeros(len(shown))
        models = alike if self.models is None else self.models
        starts = alike if self.starts is None else self.starts
        order = np.lexsort((starts, models))
        groups = np.unique([models, starts], axis=1, return_inverse=True)[1].ravel()
        colours = [f"C{group % 10}" for group in groups[order]]
        axes.barh(range(len(shown)), self.widths[order], left=starts[order], color=colours)
        axes.set_yticks(range(len(shown)), [shown[row] for row in order])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("Share of the supernet's units")
        return axes.figure

    @classmethod
    def of(cls, allocation: Allocation, names: tuple[str, ...]) -> Subnets:
        """What the clients of an allocation train, in the order of ``names``.

        A client that is left out deploys the widest subnet that its device can have.

        Parameters
        ----------
        allocation : Allocation
        names : n_clients strings
            Names of the clients, by which the allocation is matched.

        Raises
        ------
        InputError
            If the allocation is for other clients, has no widths, or has attributes that no loop
            executes.
        """
        problem, choice = allocation.problem, allocation.choice
        menu = problem.menu
        ignored = [name for name in menu.attributes if name not in EXECUTED]
        if ignored:
            raise InputError(
                f"the loop would ignore the attribute {listed(ignored, repr)} of the options: it "
                f"executes {' and '.join(EXECUTED)}; leave the attribute out of the menu, or train "
                "such options in a loop of your own"
            )
        rows = allocation_rows(allocation, names)
        widths = menu.widths[choice][rows]
        fits = within_caps(problem.clients, menu)
        widest = np.where(fits, menu.widths, 0.0).max(axis=1)[rows]
        epochs = menu.attributes["epochs"][choice][rows] if "epochs" in menu.attributes else None
        left_out = widths == 0
        return cls(
            widths,
            epochs=None if epochs is None else np.where(left_out, 1, epochs),
            deployed=np.where(left_out, widest, widths) if left_out.any() else None,
        )

    def _per_client(self, values: FloatArray, what: str) -> FloatArray:
        given = _checked(values, what)
        if given.shape != self.widths.shape:
            raise InputError(
                f"{given.size} {what} for {self.widths.size} widths: give one for each client"
            )
        return given

    def _within(self, values: FloatArray) -> FloatArray:
        """Starts of blocks that end within the supernet."""
        if self.scheme != "prefix":
            raise InputError(
                f'starts need the scheme "prefix", not {self.scheme!r}: leave them out'
            )
        given = float_array(values, "starts", self.widths.shape).copy()
        room = 1 - self.deploys + ROUNDING
        for row in np.flatnonzero(~((given >= 0) & (given <= room))):
            raise InputError(
                f"starts: the client in row {row} has width {written(self.deploys[row])} and "
                f"begins at {written(given[row])}: the supernet does not grow, so let such a block "
                f"begin at {1 - self.deploys[row]:.6g} or before"
                + (f", or be {1 - given[row]:.6g} wide" if 0 <= given[row] < 1 else "")
            )
        given.flags.writeable = False
        return given

    def _numbers(self, values: IntArray) -> IntArray:
        given = float_array(values, "models", self.widths.shape)
        for row in np.flatnonzero(given != np.floor(given)):
            raise InputError(
                f"models: the client in row {row} has {written(given[row])}: give whole numbers, "
                "the same one to those that share a model"
            )
        whole = given.astype(np.int64)
        whole.flags.writeable = False
        return whole

    def _check_later(self) -> None:
        if self.later is None and self.later_share is None:
            return
        if self.later is None or self.later_share is None:
            raise InputError("later and later_share need each other: give both, or neither")
        shares = float_array(self.later_share, "later_share", self.widths.shape).copy()
        for row in np.flatnonzero(~((shares >= 0) & (shares <= 1))):
            raise InputError(
                f"later_share: the client in row {row} has {written(shares[row])}: give shares of "
                "the rounds, from 0 to 1"
            )
        shares.flags.writeable = False
        object.__setattr__(self, "later_share", shares)
        other = self.later
        known = [name for name in PER_CLIENT if getattr(self, name) is not None]
        if (
            other.later is not None
            or other.scheme != self.scheme
            or other.widths.shape != self.widths.shape
            or known != [name for name in PER_CLIENT if getattr(other, name) is not None]
        ):
            raise InputError(
                "later subnets must have the scheme, the number of clients and the fields of the "
                f"first ({self.scheme!r}, {self.widths.size}, {listed(known)}), and nothing later"
            )

    def _whole_epochs(self, values: IntArray) -> IntArray:
        given = float_array(values, "epochs", self.widths.shape)
        for row in np.flatnonzero((given < 1) | (given != np.floor(given))):
            raise InputError(
                f"epochs: the client in row {row} has {written(given[row])}: give whole numbers of "
                "at least 1; a client is left out by width 0"
            )
        whole = given.astype(np.int64)
        whole.flags.writeable = False
        return whole

    def _check_means(self, widths: FloatArray, means: FloatArray) -> None:
        if self.scheme != DRAWN_WIDTHS:
            raise InputError(
                f'mean_widths need the scheme "{DRAWN_WIDTHS}", not {self.scheme!r}: leave them out'
            )
        if means.shape != widths.shape:
            raise InputError(
                f"{means.size} mean_widths for {widths.size} widths: give one for each client"
            )
        for row in np.flatnonzero((means > widths) | (2 * means <= widths)):
            raise InputError(
                f"the client in row {row} has mean width {means[row]} and width {widths[row]}: the "
                "mean must be above half the width and at most the width"
            )


def describe_subnets(subnets: Subnets) -> dict[str, Any]:
    """What clients train, in terms that JSON can hold; but for widths that stay as they are."""
    given = {name: getattr(subnets, name) for name in _BESIDE_WIDTHS}
    told: dict[str, Any] = {"scheme": subnets.scheme}
    told |= {name: None if values is None else values.tolist() for name, values in given.items()}
    if subnets.later is not None and subnets.later_share is not None:
        told["first"] = subnets.widths.tolist()
        told["later"] = describe_subnets(subnets.later) | {"widths": subnets.later.widths.tolist()}
        told["later_share"] = subnets.later_share.tolist()
    return told


def read_subnets(record: Mapping[str, Any], widths: FloatArray) -> Subnets:
    """Read what :func:`describe_subnets` gave; the widths are those of the last round."""
    fields: dict[str, Any] = {
        name: np.array(record[name]) for name in _BESIDE_WIDTHS if record.get(name) is not None
    }
    later = record.get("later")
    if later is not None:
        fields["later"] = read_subnets(later, np.array(later["widths"]))
        fields["later_share"] = np.array(record["later_share"])
    return Subnets(np.array(record.get("first", widths)), record["scheme"], **fields)


def _checked(values: FloatArray, what: str, *, zero: bool = False) -> FloatArray:
    """A read-only copy of one width per client; 0 only where it is allowed."""
    given = float_array(values, what).copy()
    if given.ndim != 1 or not given.size:
        raise InputError(f"{what} have shape {given.shape}: give one width per client")
    for row in np.flatnonzero(~(((given >= 0) if zero else (given > 0)) & (given <= 1))):
        remedy = "; to leave a client out, say what it deploys" if given[row] == 0 else ""
        raise InputError(
            f"{what}: the client in row {row} has {given[row]}: widths must be in (0, 1]{remedy}"
        )
    given.flags.writeable = False
    return given
