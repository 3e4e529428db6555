"""Names of clients, sites and labels: which spellings are one, and who is who in two fleets."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from numbers import Integral

import numpy as np

from hasa_opt._utils.checks import IntArray, listed, sequence
from hasa_opt.errors import InputError

__all__ = ["default_names", "distinct", "matched", "name_list", "spelled", "tidy"]

_BLANK = "\t\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_INVISIBLE = "\u200b\u2060\ufeff"  # zero-width space, word joiner, byte-order mark
_SAME = {ord(sign): " " for sign in _BLANK} | {ord(sign): None for sign in _INVISIBLE}
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # control, half a surrogate pair, line and paragraph break


def tidy(name: object) -> str:
    r"""Return a name as it is compared: without blanks around it, in Unicode's composed form (NFC).

    Every kind of blank counts as a plain one, and what has no width is left out. A whole number
    is read as its digits.

    Parameters
    ----------
    name : str or int

    Raises
    ------
    InputError
        For anything else, such as NaN or None, and for a name that holds a line break, another
        control character, or half a surrogate pair. An empty name is returned as it is.

    Examples
    --------
    >>> tidy("phone\u00a0"), tidy("cafe\u0301") == "caf\u00e9"
    ('phone', True)
    """
    if isinstance(name, Integral) and not isinstance(name, bool):
        return str(int(name))
    if not isinstance(name, str):
        raise InputError(f"{name!r} is no name but a {type(name).__name__}: give a string")
    if name.isascii() and name.isprintable():
        return name.strip()
    plain = unicodedata.normalize("NFC", str(name).translate(_SAME)).strip()
    for sign in plain:
        if unicodedata.category(sign) in _UNPRINTABLE:
            raise InputError(f"{name!r} holds {sign!r}: a name is one line of printable text")
    return plain


def name_list(values: Iterable[str | int], what: str) -> tuple[str, ...]:
    """Tidy a sequence of names, none of them empty.

    Parameters
    ----------
    values : sequence of str or int
    what : str
        The sequence in words, for messages.

    Raises
    ------
    InputError
        Naming the row of a value that is no name.
    """
    if isinstance(values, str):
        raise InputError(f"{what} is one string: give a sequence of strings")
    names = []
    for row, value in enumerate(sequence(values, what)):
        try:
            names.append(tidy(value))
        except InputError as error:
            raise InputError(f"row {row}, {what}: {error}") from error
        if not names[-1]:
            raise InputError(f"row {row}, {what}: empty: give every row one")
    return tuple(names)


def distinct(values: Iterable[str | int], what: str) -> tuple[str, ...]:
    """Tidy a sequence of names of which no two may be the same.

    Parameters
    ----------
    values : sequence of str or int
    what : str
        The sequence in words, for messages.

    Raises
    ------
    InputError
        As for :func:`name_list`, and for two values that are one name; both spellings are shown.
    """
    given = values if isinstance(values, str) else sequence(values, what)
    names = name_list(given, what)
    if len(set(names)) < len(names):
        first: dict[str, int] = {}
        for row, name in enumerate(names):
            before = first.setdefault(name, row)
            if before != row:
                raise InputError(
                    f"row {row}, {what}: {given[row]!r} already names row {before}"
                    f"{spelled(given[before], given[row])}: names must be distinct"
                )
    return names


def spelled(first: object, second: object) -> str:
    """What to add to a message about two spellings of one name; nothing if they are alike."""
    if first == second:
        return ""
    return f" as {first!a} (here {second!a}; blanks and composed characters count as one)"


def default_names(n_clients: int) -> tuple[str, ...]:
    """Names of clients that were given none: ``client-0``, ``client-1``, ..."""
    return tuple(f"client-{row}" for row in range(n_clients))


def matched(before: Sequence[str], now: Sequence[str], what: str) -> IntArray:
    """Find the clients of one fleet in another, by name.

    Parameters
    ----------
    before, now : distinct tidy names
    what : str
        What the earlier fleet belongs to, for messages.

    Returns
    -------
    (n_now,) int64
        Row of each client in ``before``; -1 for newcomers.

    Raises
    ------
    InputError
        If the fleets have no client in common.
    """
    rows = {name: row for row, name in enumerate(before)}
    found = np.array([rows.get(name, -1) for name in now], dtype=np.int64)
    if (found < 0).all():
        raise InputError(
            f"{what} is for other clients: none of {listed(now, repr, most=3)} is among "
            f"{listed(before, repr, most=3)}; give one for these clients"
        )
    return found
