"""Directories that are written aside: what was there stays whole until the new one is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from hasa_opt.errors import InputError, StorageError

__all__ = ["file_target", "made_directory"]


def sha256(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """SHA-256 of the types, shapes and values of arrays, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


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


def replace_directory(target: Path, write: Callable[[Path], None]) -> None:
    """Write a directory aside, flush it to the disk, and rename it into place.

    Whenever the process dies, the target is what it was before or all of the new one; only where
    an older one is replaced is there an instant between two renames without either. A process that
    was killed leaves its unfinished part in a hidden sibling, named ``.TARGET-...``.

    Parameters
    ----------
    target
        The directory; its parents are made.
    write
        Fills the directory that it is given.

    Raises
    ------
    StorageError
        If the disk does not take it. The target is then as it was.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as aside:
            new, old = Path(aside, "new"), Path(aside, "old")
            new.mkdir()
            write(new)
            for path in (*new.iterdir(), new):
                _flush(path)
            try:
                if target.exists():
                    target.rename(old)
                new.rename(target)
            except BaseException:
                if old.exists() and not target.exists():
                    old.rename(target)
                raise
            _flush(target.parent)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{target} cannot be written ({error}): free some space or choose another place; what "
            "was stored before is intact"
        ) from error


def _flush(path: Path) -> None:
    """Wait until the disk holds a file, or the names in a directory."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no directories.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
