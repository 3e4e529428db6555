"""Places to write to, refused with what is wrong with them."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from hasa_opt.errors import InputError, StorageError

__all__ = ["file_target", "made_directory"]


def made_directory(directory: str | PathLike[str]) -> Path:
    """Make a directory where there is none, and return its path.

    Raises
    ------
    StorageError
        If it cannot be made.
    """
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be made ({error}): choose another place") from error
    return path


def file_target(file: str | PathLike[str]) -> Path:
    """Return the path of a file that is to be written.

    Raises
    ------
    InputError
        If its folder does not exist, or it is one.
    """
    path = Path(file)
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    return path
