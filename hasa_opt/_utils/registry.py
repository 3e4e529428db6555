"""Tables of what can be chosen by name: our own members, and those that other packages add.

Another package adds a member by an entry point of the group ``hasa_opt.KIND``, such as
``hasa_opt.scores``. Its name is known without an import; the member is imported when it is asked
for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from hasa_opt.errors import InputError, MissingExtraError

__all__ = ["Registry", "origin"]

Member = TypeVar("Member")


class Registry(MutableMapping[str, Member]):
    """Members by name, in the order in which they were added; those of other packages come last.

    A member of our own is preferred to one of the same name from another package.

    Parameters
    ----------
    kind : str
        What the members are, in the plural: the ending of the group of entry points.
    members : mapping of str to member
        Our own.

    Examples
    --------
    >>> table = Registry("colours", {"red": 1})
    >>> table["blue"] = 2
    >>> list(table), table["blue"], "green" in table
    (['red', 'blue'], 2, False)
    """

    def __init__(self, kind: str, members: Mapping[str, Member]) -> None:
        self.group = f"hasa_opt.{kind}"
        self._ours = dict(members)

    def __getitem__(self, name: str) -> Member:
        """Member of a name.

        Raises
        ------
        KeyError
            If there is none.
        InputError
            If two other packages add one of this name.
        MissingExtraError
            If its module cannot be imported.
        """
        if name in self._ours:
            return self._ours[name]
        points = list(entry_points(group=self.group, name=name))
        if not points:
            raise KeyError(name)
        packages = sorted({origin(point) for point in points})
        if len(packages) > 1:
            raise InputError(
                f"the packages {' and '.join(packages)} both add {name!r} to {self.group}: "
                "uninstall one of them"
            )
        member: Member = _loaded(points[0])
        return member

    def __setitem__(self, name: str, member: Member) -> None:
        self._ours[name] = member

    def __delitem__(self, name: str) -> None:
        del self._ours[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._ours
        yield from (name for name in self.added() if name not in self._ours)

    def __len__(self) -> int:
        return len(self._ours.keys() | self.added().keys())

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self.added()

    def __repr__(self) -> str:
        return f"Registry({self.group}: {', '.join(self)})"

    @property
    def ours(self) -> Mapping[str, Member]:
        """Members of this package, found without a look at other packages."""
        return self._ours

    def added(self) -> dict[str, EntryPoint]:
        """Entry points of other packages by name, none of them imported."""
        return {point.name: point for point in entry_points(group=self.group)}


def origin(point: EntryPoint) -> str:
    """Name of the package that an entry point is from."""
    return point.value if point.dist is None else point.dist.name


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # a module may raise anything while it is imported
        raise MissingExtraError(
            f"{point.name!r} of the package {origin(point)} cannot be loaded ({error}): install "
            "what it needs, or uninstall it"
        ) from error
