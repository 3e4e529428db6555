"""What each client trains: widths, and which units of the supernet they take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import FloatArray, float_array, number
from hasa_opt.errors import InputError

__all__ = ["DRAWN_WIDTHS", "Subnets"]

DRAWN_WIDTHS = "ordered_dropout"
"""The scheme under which each batch trains a drawn width (FjORD, arXiv:2102.13451)."""


@dataclass(frozen=True, eq=False)
class Subnets:
    """What each client trains and deploys.

    Attributes
    ----------
    widths : (n_clients,) floats in (0, 1]
        Width of each client's subnet, as it is deployed.
    scheme : str
        Which units a subnet is made of; name in :data:`hasa_opt.federated.SCHEMES`.
    mean_widths : (n_clients,) floats, optional
        With the scheme "ordered_dropout": mean of the widths that each client's batches train.
        They lie as far below the mean as the client's width lies above it.
    share : float, optional
        What the subnets spend of a budget's resource, as a share of what everybody would spend on
        the whole supernet. None: not known.

    Raises
    ------
    InputError
        If a width is not in (0, 1], a mean is not within reach of its client's width, or the share
        is negative.

    Examples
    --------
    >>> Subnets([0.25, 1.0], scheme="rolling").widths.tolist()
    [0.25, 1.0]
    """

    widths: FloatArray
    scheme: str = "prefix"
    mean_widths: FloatArray | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        widths = _checked(self.widths, "widths")
        object.__setattr__(self, "widths", widths)
        if not isinstance(self.scheme, str):
            raise InputError(f'scheme {self.scheme!r} must be a name, such as "prefix"')
        if self.mean_widths is not None:
            means = _checked(self.mean_widths, "mean_widths")
            self._check_means(widths, means)
            object.__setattr__(self, "mean_widths", means)
        if self.share is not None and number(self.share, "share") < 0:
            raise InputError(f"share {self.share} must be at least 0")

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


def _checked(values: FloatArray, what: str) -> FloatArray:
    """A read-only copy of one width per client."""
    given = float_array(values, what).copy()
    if given.ndim != 1 or not given.size:
        raise InputError(f"{what} have shape {given.shape}: give one width per client")
    for row in np.flatnonzero(~((given > 0) & (given <= 1))):
        raise InputError(
            f"{what}: the client in row {row} has {given[row]}: widths must be in (0, 1]"
        )
    given.flags.writeable = False
    return given
