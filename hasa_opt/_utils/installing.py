"""How to install what is missing: the words and commands of every error that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from hasa_opt.errors import MissingExtraError

__all__ = ["needing", "not_installed", "pip", "pip_extra"]

PACKAGE = "hasa-opt"


def pip(*requirements: str) -> str:
    """Command that installs packages from an index."""
    return " ".join(["pip install", *map(quote, requirements)])


def not_installed(what: str, package: str, command: str) -> str:
    """Message that something needs a package, and the command that installs it."""
    return f"{what} needs {package}, not installed here: {command}"


@contextmanager
def needing(what: str, *, extra: str | None = None) -> Iterator[None]:
    """Around imports: a package that is absent becomes an error that says how to install it.

    Parameters
    ----------
    what : str
        What needs the imports.
    extra : str, optional
        Extra of this package that has all of them. Default: the absent package alone.

    Raises
    ------
    MissingExtraError
        If a module is not found.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name)
        command = pip(package) if extra is None else pip_extra(extra)
        raise MissingExtraError(not_installed(what, package, command)) from error


def pip_extra(name: str) -> str:
    """Command that installs an extra of this package from where the package came.

    An installer writes into ``direct_url.json`` where it took a package from, unless that was an
    index (Python Packaging User Guide, "Recording the Direct URL Origin").
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        record = distribution(PACKAGE).read_text("direct_url.json")
    except PackageNotFoundError:
        return _in_a_clone(name)
    if record is None:
        return pip(f"{PACKAGE}[{name}]")
    return _from_origin(name, json.loads(record))


def _from_origin(name: str, origin: dict[str, Any]) -> str:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    source = origin["url"]
    address = urlsplit(source)
    if address.scheme == "file":
        place = Path(url2pathname(address.path))
        if not place.exists():
            return _in_a_clone(name)
        editable = ["--editable"] if origin.get("dir_info", {}).get("editable") else []
        return pip(*editable, f"{place}[{name}]")
    if "vcs_info" in origin:
        source = f"{origin['vcs_info']['vcs']}+{source}@{origin['vcs_info']['commit_id']}"
    return pip(f"{PACKAGE}[{name}] @ {source}")


def _in_a_clone(name: str) -> str:
    return f"in a clone of hasa_opt, {pip(f'.[{name}]')}"
