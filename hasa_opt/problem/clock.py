"""Clocks: what training and sending take of a device, in seconds and joules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, float_array, listed
from hasa_opt._utils.frames import columns_of
from hasa_opt._utils.names import distinct, tidy
from hasa_opt.errors import InputError
from hasa_opt.problem.choices import Deadline

__all__ = ["MILLIJOULES", "MILLISECONDS", "Clock"]

MILLISECONDS, MILLIJOULES = "milliseconds", "millijoules"
"""Names of the resources: costs are whole numbers, so the units are small."""
_DEVICE = "device"


@dataclass(frozen=True, eq=False)
class Clock:
    """Speed, bandwidth and power of the devices.

    A round takes a client ``startup + down / down_bandwidth + flops / speed + up / up_bandwidth``
    seconds, and ``compute_w * flops / speed + radio_w * transfer seconds`` joules. An option that
    computes and sends nothing takes neither.

    Parameters
    ----------
    flops_per_s, down_bytes_per_s, up_bytes_per_s : float or (n_clients,) floats
        Above 0.
    startup_s : float or (n_clients,) floats
        Before anything is received; at least 0.
    compute_w, radio_w : float or (n_clients,) floats, optional
        Power while computing and while receiving or sending. Both or neither; without them there
        are no joules.
    deadline_s : float or (n_clients,) floats, optional
        Whoever takes longer is late; above 0.

    Raises
    ------
    InputError
        For a value that breaks one of these rules.

    Examples
    --------
    >>> clock = Clock(1e9, 1e6, 5e5, compute_w=2, radio_w=1)
    >>> float(clock.seconds(2e9, 1e6, 1e6)), float(clock.joules(2e9, 1e6, 1e6))
    (5.0, 7.0)
    """

    flops_per_s: npt.ArrayLike
    down_bytes_per_s: npt.ArrayLike
    up_bytes_per_s: npt.ArrayLike
    startup_s: npt.ArrayLike = 0.0
    compute_w: npt.ArrayLike | None = None
    radio_w: npt.ArrayLike | None = None
    deadline_s: npt.ArrayLike | None = None

    def __init__(
        self,
        flops_per_s: npt.ArrayLike,
        down_bytes_per_s: npt.ArrayLike,
        up_bytes_per_s: npt.ArrayLike,
        *,
        startup_s: npt.ArrayLike = 0.0,
        compute_w: npt.ArrayLike | None = None,
        radio_w: npt.ArrayLike | None = None,
        deadline_s: npt.ArrayLike | None = None,
    ) -> None:
        if (compute_w is None) != (radio_w is None):
            raise InputError("compute_w and radio_w belong together: give both, or neither")
        given = {
            "flops_per_s": flops_per_s,
            "down_bytes_per_s": down_bytes_per_s,
            "up_bytes_per_s": up_bytes_per_s,
            "startup_s": startup_s,
            "compute_w": compute_w,
            "radio_w": radio_w,
            "deadline_s": deadline_s,
        }
        least = {"startup_s", "compute_w", "radio_w"}
        for name, value in given.items():
            checked = None if value is None else _per_client(value, name, zero=name in least)
            object.__setattr__(self, name, checked)

    @classmethod
    def of_classes(cls, device: Sequence[str], profiles: Any) -> Clock:
        """The clock of clients of some device classes.

        Parameters
        ----------
        device : n_clients strings
            Class of each client, as :attr:`hasa_opt.Clients.device` has them.
        profiles : data frame or mapping of column to values
            A row for each class: "device", and the parameters of a clock.

        Raises
        ------
        InputError
            For a column that is missing or no parameter, or a class without a row or with two.

        Examples
        --------
        >>> profiles = {"device": ["phone", "hub"], "flops_per_s": [1e9, 8e9],
        ...             "down_bytes_per_s": [1e6, 4e6], "up_bytes_per_s": [5e5, 4e6]}
        >>> Clock.of_classes(["hub", "phone", "hub"], profiles).flops_per_s.tolist()
        [8000000000.0, 1000000000.0, 8000000000.0]
        """
        columns = columns_of(profiles, "the profiles")
        known = [field.name for field in fields(cls)]
        strange = sorted(columns.keys() - {_DEVICE, *known})
        missing = [name for name in (_DEVICE, *known[:3]) if name not in columns]
        if strange or missing:
            wrong = f"no column {missing[0]!r}" if missing else f"a column {strange[0]!r}"
            raise InputError(
                f"the profiles have {wrong}: give {_DEVICE!r}, {listed(known[:3], repr)}, and if "
                f"wanted {listed(known[3:], repr)}"
            )
        classes = distinct(map(str, columns.pop(_DEVICE)), "devices of the profiles")
        unknown = sorted({tidy(str(name)) for name in device} - set(classes))
        if unknown:
            raise InputError(
                f"the profiles have no row for device {unknown[0]!r} (they have: "
                f"{listed(classes, repr)}): add one"
            )
        rows = [classes.index(tidy(str(name))) for name in device]
        return cls(**{name: float_array(values, name)[rows] for name, values in columns.items()})

    def seconds(
        self, flops: npt.ArrayLike, down_bytes: npt.ArrayLike, up_bytes: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Seconds of a round.

        Parameters
        ----------
        flops, down_bytes, up_bytes : (m,) or (n_clients, m) numbers of at least 0
            By option. What is sent defaults to what is received.

        Returns
        -------
        (m,) or (n_clients, m) floats
        """
        compute, transfer = self._parts(flops, down_bytes, up_bytes)
        idle = (compute == 0) & (transfer == 0)
        return np.where(idle, 0.0, self._each("startup_s") + compute + transfer)

    def joules(
        self, flops: npt.ArrayLike, down_bytes: npt.ArrayLike, up_bytes: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Joules of a round; parameters and shape as for :meth:`seconds`.

        Raises
        ------
        InputError
            If the clock knows no power.
        """
        if self.compute_w is None:
            raise InputError("the clock knows no power: give Clock(compute_w=..., radio_w=...)")
        compute, transfer = self._parts(flops, down_bytes, up_bytes)
        joules: FloatArray = self._each("compute_w") * compute + self._each("radio_w") * transfer
        return joules

    def costs(
        self, flops: npt.ArrayLike, down_bytes: npt.ArrayLike, up_bytes: npt.ArrayLike | None = None
    ) -> dict[str, IntArray]:
        """Costs of a menu, rounded up to whole units, so that no budget is broken by rounding.

        Parameters as for :meth:`seconds`.

        Returns
        -------
        dict of str to int64 arrays
            "milliseconds", and "millijoules" where the clock knows the power.
        """
        amounts = {MILLISECONDS: self.seconds(flops, down_bytes, up_bytes)}
        if self.compute_w is not None:
            amounts[MILLIJOULES] = self.joules(flops, down_bytes, up_bytes)
        return {name: _whole_thousandths(amount, name) for name, amount in amounts.items()}

    def deadline(self) -> Deadline:
        """The deadline of each client, for menus that have the resource "milliseconds".

        Raises
        ------
        InputError
            If the clock has none.
        """
        if self.deadline_s is None:
            raise InputError("the clock has no deadline: give Clock(deadline_s=...)")
        limits = np.floor(1000 * np.asarray(self.deadline_s, dtype=np.float64) * (1 + 1e-12))
        return Deadline(MILLISECONDS, limits.astype(np.int64))

    def of(self, client: int) -> Clock:
        """The clock of one client, by its row."""
        given = self._given().items()
        return Clock(**{name: each[client] if each.ndim else each for name, each in given})

    def waited(
        self, flops: npt.ArrayLike, down_bytes: npt.ArrayLike, up_bytes: npt.ArrayLike | None = None
    ) -> FloatArray:
        """Seconds that a round waits: those of :meth:`seconds`, to the deadline at most."""
        seconds = self.seconds(flops, down_bytes, up_bytes)
        return seconds if self.deadline_s is None else np.minimum(seconds, self._each("deadline_s"))

    def is_late(self, flops: float, down_bytes: float, up_bytes: float) -> bool:
        """Whether what one client does takes longer than its deadline."""
        done = (flops, down_bytes, up_bytes)
        return bool(self.waited(*done) < self.seconds(*done))

    def check(self, n_clients: int) -> None:
        """Refuse a clock of another number of clients.

        Raises
        ------
        InputError
            Naming the field.
        """
        for name, values in self._given().items():
            if values.ndim and len(values) != n_clients:
                raise InputError(
                    f"{name} of the clock has {len(values)} values for {n_clients} clients: give "
                    "one number, or one per client"
                )

    def record(self) -> dict[str, Any]:
        """What tells it from others, as JSON gives it back."""
        return {name: values.tolist() for name, values in self._given().items()}

    def _given(self) -> dict[str, FloatArray]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: values for name, values in given.items() if values is not None}

    def _each(self, name: str) -> FloatArray:
        """A field, as a column where it is given for each client."""
        values = np.asarray(getattr(self, name), dtype=np.float64)
        return values[:, None] if values.ndim else values

    def _parts(
        self, flops: npt.ArrayLike, down_bytes: npt.ArrayLike, up_bytes: npt.ArrayLike | None
    ) -> tuple[FloatArray, FloatArray]:
        """Seconds of computing, and of receiving and sending."""
        up = down_bytes if up_bytes is None else up_bytes
        compute = _amounts(flops, "flops") / self._each("flops_per_s")
        down = _amounts(down_bytes, "down_bytes") / self._each("down_bytes_per_s")
        return compute, down + _amounts(up, "up_bytes") / self._each("up_bytes_per_s")


def _per_client(value: npt.ArrayLike, name: str, *, zero: bool) -> FloatArray:
    values = float_array(value, name)
    if values.ndim > 1:
        raise InputError(f"{name} has shape {values.shape}: give one number, or one per client")
    if not (np.isfinite(values) & ((values >= 0) if zero else (values > 0))).all():
        least = "at least 0" if zero else "above 0"
        raise InputError(f"{name} = {values.min():g} must be {least} and finite")
    return values


def _amounts(values: npt.ArrayLike, name: str) -> FloatArray:
    amounts = float_array(values, name)
    if (amounts < 0).any():
        raise InputError(f"{name} {amounts.min():g} is negative: amounts start at 0")
    return amounts


def _whole_thousandths(amounts: FloatArray, name: str) -> IntArray:
    """Thousandths, rounded up; what rounding in floating point adds is left out first."""
    wanted = 1000 * amounts
    nearest = np.rint(wanted)
    rounded = np.where(np.abs(wanted - nearest) <= 1e-9 * nearest, nearest, np.ceil(wanted))
    if rounded.size and rounded.max() > 2.0**62:
        raise InputError(f"{rounded.max():g} {name} exceed 2**62: check the speeds and bandwidths")
    return rounded.astype(np.int64)
