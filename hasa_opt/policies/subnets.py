"""What each client trains: widths, and which units of the supernet they take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray, float_array, listed, number
from hasa_opt._utils.rational import written
from hasa_opt._utils.units import ROUNDING
from hasa_opt.errors import InputError
from hasa_opt.problem.checks import within_caps
from hasa_opt.problem.matching import allocation_rows
from hasa_opt.problem.result import Allocation

__all__ = ["DRAWN_WIDTHS", "EXECUTED", "Subnets"]

EXECUTED = ("width", "epochs")
"""Attributes of options that a training loop executes; all others are only priced."""

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

    Raises
    ------
    InputError
        If a width is not in [0, 1], a client that trains nothing deploys nothing either, a mean is
        not within reach of its client's width, a block goes beyond the supernet, or the share is
        negative.

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

    @property
    def deploys(self) -> FloatArray:
        """Width at which each client deploys, ``(n_clients,)``."""
        return self.widths if self.deployed is None else self.deployed

    @property
    def has_blocks(self) -> bool:
        """Whether some clients hold units that others of their width do not."""
        return self.starts is not None and np.unique(self.starts).size > 1

    def start(self, client: int) -> float:
        """Share of the units that lie before a client's."""
        return 0.0 if self.starts is None else float(self.starts[client])

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
                f"begins at {written(given[row])}: its block must end within the supernet"
            )
        given.flags.writeable = False
        return given

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
