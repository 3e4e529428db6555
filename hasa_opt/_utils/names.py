"""Names of clients, sites, labels and columns: which spellings are one name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeVar

from hasa_opt._utils.checks import sequence
from hasa_opt.errors import InputError

__all__ = ["distinct", "keyed", "name_list", "plain_names", "spelled", "tidy"]

_Value = TypeVar("_Value")

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
        raise InputError(f"{name!r} is a {type(name).__name__}, but a name is a string: give one")
    if name.isascii() and name.isprintable():
        return name.strip()
    plain = unicodedata.normalize("NFC", str(name).translate(_SAME)).strip()
    for sign in plain:
        if unicodedata.category(sign) in _UNPRINTABLE:
            raise InputError(f"{name!r} holds {sign!r}: a name is one line of printable text")
    return plain


def plain_names(values: Sequence[Any]) -> list[str] | None:
    """Tidy names that are all printable ASCII and not empty; None if any is something else."""
    try:
        together = "".join(values)
    except TypeError:
        return None
    if not (together.isascii() and together.isprintable()):
        return None
    names = list(map(str.strip, values)) if " " in together else list(map(str, values))
    return names if all(names) else None


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
        Naming the row of a value that cannot be a name; also for a set, which has no order.
    """
    given = _in_order(values, what)
    plain = plain_names(given)
    if plain is not None:
        return tuple(plain)
    names = []
    for row, value in enumerate(given):
        try:
            names.append(tidy(value))
        except InputError as error:
            raise InputError(f"row {row}, {what}: {error}") from error
        if not names[-1]:
            raise InputError(f"row {row}, {what}: empty: give every row one")
    return tuple(names)


class _Distinct(tuple[str, ...]):
    """Names that are known to be tidy, and of which no two are the same."""

    __slots__ = ()


def distinct(values: Iterable[str | int], what: str) -> tuple[str, ...]:
    """Tidy a sequence of names of which no two may be the same.

    What it returns need not be looked through a second time.

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
    if isinstance(values, _Distinct):
        return values
    given = _in_order(values, what)
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
    return _Distinct(names)


def _in_order(values: Iterable[str | int], what: str) -> tuple[Any, ...]:
    """Members of a sequence; a single string and a set are none."""
    if isinstance(values, str | set | frozenset):
        kind = "one string" if isinstance(values, str) else "a set, which has no order"
        raise InputError(f"{what} is {kind}: give a sequence of strings")
    if hasattr(values, "to_pylist"):  # pyarrow, whose members are no strings
        values = values.to_pylist()
    return sequence(values, what)


def keyed(values: Mapping[Any, _Value], what: str) -> dict[str, _Value]:
    """Tidy the keys of a mapping, of which no two may be the same name; see :func:`distinct`."""
    return dict(zip(distinct(list(values), what), values.values(), strict=True))


def spelled(first: object, second: object) -> str:
    """Words about two spellings of one name, to end a message with; none if they are alike."""
    if first == second:
        return ""
    return f" as {first!a} (here {second!a}; blanks and composed characters count as one)"
