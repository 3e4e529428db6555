"""Files and directories that are written aside: what was there stays whole until the new one is."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hasa_opt.errors import HasaError, InputError, StorageError

__all__ = [
    "entries",
    "file_target",
    "made_directory",
    "path_of",
    "replace_directory",
    "sha256",
    "write_text",
    "writing",
]

_LITTER = re.compile(
    r"\.ds_store|\._.*|\.localized|\.fseventsd|\.spotlight-v100|\.trashes|icon\r"  # macOS
    r"|thumbs\.db|ehthumbs\.db|desktop\.ini"  # Windows
    r"|\.directory|\.trash-\d+|lost\+found"  # Linux
    r"|\.nfs.*|\.fuse_hidden.*|@eadir|\.appledouble",  # network disks
    re.IGNORECASE | re.DOTALL,
)


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
    InputError
        If it is no path.
    StorageError
        If it cannot be made.
    """
    path = path_of(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path} cannot be made ({error}): choose another place") from error
    return path


def path_of(place: str | PathLike[str]) -> Path:
    """Return a path.

    Raises
    ------
    InputError
        For what is none, such as a file that is open.
    """
    try:
        return Path(place)
    except TypeError as error:
        raise InputError(f"{place!r} is a {type(place).__name__}: give a path") from error


def entries(directory: Path) -> list[Path]:
    """What a directory holds, but for what operating systems leave there, such as .DS_Store."""
    return [path for path in directory.iterdir() if not _LITTER.fullmatch(path.name)]


def file_target(file: str | PathLike[str]) -> Path:
    """Return the path of a file that is to be written.

    Raises
    ------
    InputError
        If it is no path, its folder does not exist, it is a folder itself, or no file can have
        such a name.
    """
    path = path_of(file)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be a file ({error}): give another name") from error
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist: create it first")
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the name of a file")
    return path


@contextmanager
def writing(file: str | PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file to write that appears, or replaces the one of before, when all is written.

    It is written beside its place and renamed. Whatever stops the writing, the file of before is
    intact and nothing else is left. Text is UTF-8, its line ends as they are written.

    Parameters
    ----------
    file : path
        Its folder must exist. A link is followed; a device, such as ``/dev/stdout``, is written to.
    mode : {"w", "wb"}
        Text, or bytes.

    Raises
    ------
    InputError
        If there can be no such file, or a text cannot be encoded.
    StorageError
        If the disk does not take it.
    """
    path = file_target(file)
    is_device = path.exists() and not path.is_file()
    path = path if is_device else path.resolve()
    aside = path.with_name(f".{path.name[:40]}-{secrets.token_hex(4)}")
    place, mode = (path, mode) if is_device else (aside, f"x{mode[1:]}")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        with place.open(mode, encoding=encoding, newline=newline) as new:
            yield new
            new.flush()
            if not is_device:
                os.fsync(new.fileno())
        if not is_device:
            if path.exists():
                shutil.copymode(path, aside)
            aside.replace(path)
    except HasaError:
        raise
    except OSError as error:
        raise _not_written(path, error) from error
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: {error.object[error.start : error.end]!r} cannot be stored as "
            "UTF-8 (half of a surrogate pair): was the text decoded by the right encoding?"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_text(file: str | PathLike[str], text: str) -> None:
    """Write a text as a file; see :func:`writing`."""
    with writing(file) as new:
        new.write(text)


def _not_written(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"{path} cannot be written ({error}): free some space or choose another place; what "
        "was stored before is intact"
    )


def replace_directory(
    target: Path,
    write: Callable[[Path], None],
    failure: type[Exception] = OSError,
) -> None:
    """Write a directory aside, flush it to the disk, and rename it into place.

    Whenever the process dies, the target is what it was before or all of the new one; only where
    an older one is replaced is there an instant between two renames without either. A process that
    was killed leaves its unfinished part in a hidden sibling, named ``.TARGET-...``.

    Parameters
    ----------
    target : Path
        The directory; its parents are made.
    write : callable
        Fills the directory that it is given.
    failure : exception class
        What ``write`` raises, beside OSError, when the disk does not take a file.

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
    except (OSError, failure) as error:
        raise _not_written(target, error) from error


def _flush(path: Path) -> None:
    """Wait until the disk holds a file, or the names in a directory."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no directories.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
