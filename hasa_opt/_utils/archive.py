"""One file that keeps a noun: JSON and arrays, with a version and a checksum; nothing is pickled.

The file is a zip archive without compression. ``content.json`` comes first and names every array;
each of them is a member in NumPy's ``npy`` format, so that ``numpy.load`` reads them as well.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hasa_opt._utils import VERSION
from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.files import path_of, sha256, writing
from hasa_opt.errors import InputError

__all__ = ["FORMAT", "Archive", "Archived", "damage"]

FORMAT = 1
"""Version of the files; one that reads other files, or means something else by them, is another."""

_INDEX = "content.json"
_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(<i8|<f8|\|b1)', 'fortran_order': False, "
    rb"'shape': \(([\d, ]*)\), \} *\n",
    re.DOTALL,
)
_DATE = (1980, 1, 1, 0, 0, 0)  # so that equal contents make equal files
_DAMAGE = (
    *(zipfile.BadZipFile, struct.error, KeyError, ValueError, TypeError, IndexError, EOFError),
    *(NotImplementedError, RuntimeError, ArithmeticError, AttributeError),  # of deep JSON as well
)


@dataclass(frozen=True)
class Archive:
    """What a file keeps.

    Attributes
    ----------
    content : dict
        Of what JSON knows; arrays stand in it by their names.
    arrays : dict of str to array
        Of int64, float64 or bool.
    """

    content: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def add(self, name: str, array: npt.NDArray[Any] | None) -> str | None:
        """Keep an array, once if it is given again, and return the name that it has.

        Raises
        ------
        InputError
            If it holds something else than numbers and truth values.
        """
        if array is None:
            return None
        if array.dtype.kind not in "iubf" or array.dtype.itemsize > 8:
            raise InputError(f"{name} of type {array.dtype} cannot be saved: give int64 or float64")
        plain = _plain(array)
        for known, other in self.arrays.items():
            if other is plain:
                return known
        self.arrays[name] = plain
        return name

    def get(self, name: str | None, kind: type, *shape: int | None) -> Any:
        """An array by its name, of a type and a shape; None for no name, any length for None."""
        if name is None:
            return None
        array = self.arrays[name]
        fits = len(array.shape) == len(shape) and all(
            wanted in (None, own) for own, wanted in zip(array.shape, shape, strict=True)
        )
        if array.dtype != np.dtype(kind) or not fits:
            raise damage(f"{name} is {array.dtype}{array.shape}")
        return array

    def ints(self, name: str | None, *shape: int | None) -> IntArray:
        """An array of int64."""
        return self.get(name, np.int64, *shape)  # type: ignore[no-any-return]

    def floats(self, name: str | None, *shape: int | None) -> FloatArray:
        """An array of float64."""
        return self.get(name, np.float64, *shape)  # type: ignore[no-any-return]

    def bools(self, name: str | None, *shape: int | None) -> BoolArray:
        """An array of truth values."""
        return self.get(name, np.bool_, *shape)  # type: ignore[no-any-return]

    def digest(self, noun: str) -> str:
        """SHA-256 of everything, in hexadecimal."""
        text = json.dumps([noun, self.content, list(self.arrays)], allow_nan=False)
        return sha256([np.frombuffer(text.encode(), dtype=np.uint8), *self.arrays.values()])

    def write(self, file: str | PathLike[str], noun: str) -> None:
        """Write the file, in one step: see :func:`~hasa_opt._utils.files.writing`."""
        index = {
            "noun": noun,
            "format": FORMAT,
            "hasa_opt": VERSION,
            "sha256": self.digest(noun),
            "arrays": list(self.arrays),
            "content": self.content,
        }
        with writing(file, "wb") as out, zipfile.ZipFile(out, "w") as members:
            members.writestr(zipfile.ZipInfo(_INDEX, _DATE), json.dumps(index, allow_nan=False))
            for name, array in self.arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy", _DATE)
                with members.open(member, "w", force_zip64=True) as place:
                    np.lib.format.write_array(place, array, (1, 0), allow_pickle=False)

    @classmethod
    def read(cls, file: str | PathLike[str], noun: str) -> Archive:
        """Read a file that keeps such a noun, after checking version and checksum.

        Raises
        ------
        InputError
            If there is none, it keeps something else, is of another version, or is damaged.
        """
        path = path_of(file)
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}): give a file of save()") from error
        if not data.startswith(b"PK\3\4"):
            raise InputError(f"{path} is no file of save(), or damaged: save it again")
        with _refusing_damage(path):
            return cls._of_bytes(data, noun)

    @classmethod
    def _of_bytes(cls, data: bytes, noun: str) -> Archive:
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            index = json.loads(_member(members, _INDEX))
            if not isinstance(index, dict):
                raise damage("no index")
            _check_kind(index, noun)
            arrays = {name: _read(_member(members, f"{name}.npy")) for name in index["arrays"]}
            if len(arrays) + 1 != len(members.namelist()):
                raise damage("members that the index does not name")
        found = cls(index["content"], arrays)
        if not isinstance(found.content, dict) or found.digest(noun) != index["sha256"]:
            raise damage("its content is not what was saved")
        return found


class Archived:
    """A noun that one file keeps."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one file, which :meth:`load` gives back.

        Arrays and JSON with a version and a checksum; nothing is pickled. Equal nouns make equal
        files.

        Parameters
        ----------
        path : path of the file to write
            Its folder must exist; a file that is there is replaced in one step.

        Raises
        ------
        InputError
            If there can be no such file, or a part cannot be kept in one.
        StorageError
            If the disk does not take it; the file of before is then intact.
        """
        self.packed().write(path, type(self).__name__)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what :meth:`save` wrote; everything in it is checked.

        Raises
        ------
        InputError
            If the file is absent, damaged, of another version, or says what is not so.
        """
        archive = Archive.read(path, cls.__name__)
        with _refusing_damage(path):
            return cls.unpacked(archive)

    def packed(self) -> Archive:
        """What the file is to keep."""
        raise NotImplementedError

    @classmethod
    def unpacked(cls, archive: Archive) -> Self:
        """The noun that a file keeps; any error but our own means that it is damaged."""
        raise NotImplementedError


@contextmanager
def _refusing_damage(path: object) -> Iterator[None]:
    """What goes wrong within the block is the fault of the file, and is said to be."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except _DAMAGE as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: {damage(words)}") from error


def damage(what: str) -> InputError:
    """The error for a part of a file that cannot be what was saved."""
    return InputError(f"the file is damaged ({what}): save it again")


def _check_kind(index: Mapping[str, Any], noun: str) -> None:
    """Refuse another noun and another version, which are no damage."""
    if index["noun"] != noun:
        raise InputError(f"keeps {index['noun']!r}: load it with the class of that name")
    if index["format"] != FORMAT:
        raise InputError(
            f"has format {index['format']!r}, this version reads {FORMAT}: use the version of "
            f"hasa_opt that wrote it, {index['hasa_opt']!r}"
        )


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array in one of the types that files have, row by row."""
    kind = {"b": "|b1", "f": "<f8"}.get(array.dtype.kind, "<i8")
    return np.ascontiguousarray(array, dtype=kind)


def _member(members: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member, which no compression makes more than the file's."""
    info = members.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED:
        raise damage(f"{name} is compressed")
    return members.read(info)


def _read(data: bytes) -> npt.NDArray[Any]:
    """An array in NumPy's format, read-only; without NumPy's reader, which evaluates a header."""
    head = _HEAD.match(data)
    if head is None:
        raise damage("an array that save() did not write")
    dtype = np.dtype(head[1].decode())
    shape = tuple(int(part) for part in head[2].split(b",") if part.strip())
    if prod(shape) * dtype.itemsize != len(data) - head.end():
        raise damage("an array of another length")
    array = np.frombuffer(data, dtype, offset=head.end()).reshape(shape)
    if dtype == np.bool_ and array.view(np.uint8).max(initial=0) > 1:
        raise damage("truth values that are none")
    return array
