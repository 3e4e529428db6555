"""Measurements of what widths are worth, and pairs of independent halves of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, float_array
from hasa_opt._utils.rational import menu_units
from hasa_opt._utils.scale import ACCURACY, Scale
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.forecast.curves import pooled_covariance
from hasa_opt.forecast.probing import Probe

__all__ = ["Evidence", "read_evidence"]

_SPLITS = 10
"""Times that one table is thinned into halves: the verdict then hardly hangs on the draw."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What each client reaches at each width, and how sure that is.

    Attributes
    ----------
    widths : (n_widths,) floats
    table : (n_clients, n_widths) floats
        More is better: accuracies in points, or errors below zero.
    covariance : (n_clients, n_widths, n_widths) floats
        Noise of each row of the table.
    parts : (n_splits, n_parts, n_clients, n_widths) floats
        The table divided into independent parts, in one way or several.
    degrees : float
        Degrees of freedom of the noise.
    scale : Scale
        The metric of a probe. Default: what is given without one is taken for accuracies.
    """

    widths: FloatArray
    table: FloatArray
    covariance: FloatArray
    parts: FloatArray
    degrees: float
    scale: Scale = ACCURACY


def read_evidence(
    utilities: Probe | npt.ArrayLike,
    clients: Clients,
    widths: Sequence[float] | FloatArray | None,
    noise: npt.ArrayLike | None,
    seed: int,
) -> Evidence:
    """Read a probe, several parts, or one table with its noise.

    Raises
    ------
    InputError
        For a shape that does not fit, a menu or noise that is missing or of no use.
    """
    if isinstance(utilities, Probe):
        if widths is not None or noise is not None:
            raise InputError("a probe has its own widths and noise: leave both arguments out")
        _check_clients(len(utilities.reached), clients)
        _check_names(utilities.names, clients)
        scale = utilities.scale
        parts, table = scale.worth(utilities.halves[None]), scale.worth(utilities.reached)
        covariance = scale.factor**2 * utilities.covariance
        return Evidence(utilities.widths, table, covariance, parts, utilities.degrees, scale)
    given = float_array(utilities, "utilities")
    if widths is None:
        raise InputError("widths are missing: give the menu of the columns, widths=(0.2, 0.5, ...)")
    units, denominator = menu_units(widths)
    menu = units / denominator
    if given.ndim not in (2, 3) or given.shape[-1] != menu.size:
        raise InputError(
            f"utilities have shape {given.shape}: give a table (n_clients, {menu.size}), or at "
            f"least two parts (n_parts, n_clients, {menu.size})"
        )
    _check_clients(given.shape[-2], clients)
    if given.ndim == 3:
        return _of_parts(menu, given, clients, noise)
    return _thinned(menu, given, clients, noise, seed)


def _check_clients(rows: int, clients: Clients) -> None:
    if rows != len(clients):
        raise InputError(f"utilities have {rows} rows for {len(clients)} clients: give one each")


def _check_names(names: Sequence[str], clients: Clients) -> None:
    for row, name in enumerate(names if clients.names is not None else ()):
        if clients.name(row) != name:
            raise InputError(
                f"row {row} of the probe is {name!r}, that of the clients {clients.name(row)!r}: "
                "give the clients that were probed, in their order"
            )


def _of_parts(
    menu: FloatArray, given: FloatArray, clients: Clients, noise: npt.ArrayLike | None
) -> Evidence:
    """Noise from the spread of the parts; its variance falls with the client's samples."""
    if len(given) < 2:
        raise InputError("utilities have one part: give two or more, or a table with its noise")
    if noise is not None:
        raise InputError("the parts of the utilities tell their noise: leave noise out")
    table = given.mean(axis=0)
    spread = given - table
    samples = clients.samples.astype(np.float64)
    scatter = np.einsum("pik,pil->ikl", spread, spread) * samples[:, None, None]
    degrees = np.full(len(clients), len(given) - 1.0)
    covariance = pooled_covariance(scatter, degrees, 1 / (samples * len(given)))
    return Evidence(menu, table, covariance, given[None], float(degrees.sum()))


def _thinned(
    menu: FloatArray,
    table: FloatArray,
    clients: Clients,
    noise: npt.ArrayLike | None,
    seed: int,
) -> Evidence:
    """Halves of a table with normal noise: to one is added what is taken from the other.

    With an addition of the same covariance the two are independent, each with twice the variance
    (Rasines and Young, 2023; Neufeld et al., 2024). What is added to a client hangs on its place
    among the sorted clients, not on the order in which they are given.
    """
    if noise is None:
        raise InputError(
            "one table does not tell its own noise: give noise= (standard errors; 0 for none), or "
            "the same measure on two halves of the data"
        )
    covariance = _covariance(noise, table.shape)
    values, vectors = np.linalg.eigh(covariance)
    if values.min() < -1e-9 * max(values.max(), 0.0):
        raise InputError("noise holds a covariance with a negative variance: give proper ones")
    roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((_SPLITS if values.max() > 0 else 1, *table.shape))
    added = np.empty_like(drawn)
    added[:, np.lexsort(np.column_stack([clients.samples, table]).T)] = drawn
    added = np.einsum("ikl,sil->sik", roots, added)
    return Evidence(menu, table, covariance, np.stack([table + added, table - added], axis=1), inf)


def _covariance(noise: npt.ArrayLike, shape: tuple[int, int]) -> FloatArray:
    """Covariance of each row, from standard errors or as given."""
    given = float_array(noise, "noise")
    full = (*shape, shape[1])
    if given.shape == full:
        return (given + given.transpose(0, 2, 1)) / 2
    if given.shape not in {(), shape[:1], shape}:
        raise InputError(
            f"noise has shape {given.shape}: give one standard error, {shape[:1]}, {shape}, or "
            f"covariances {full}"
        )
    if (given < 0).any():
        raise InputError(f"noise {given.min()} is negative: standard errors are at least 0")
    rows = given[:, None] if given.shape == shape[:1] else given
    errors = np.broadcast_to(rows, shape)
    return np.asarray(np.eye(shape[1]) * errors[:, None, :] ** 2)
