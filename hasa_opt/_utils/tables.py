"""Delimited text as people have it: any encoding and delimiter, gzipped, a path or an open file.

What is not told is detected, and what was detected beside UTF-8 and a known delimiter is said in a
warning. What the columns mean is for others to say.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, TypeAlias

from hasa_opt._utils.checks import listed
from hasa_opt._utils.names import tidy
from hasa_opt.errors import InputError

__all__ = ["DELIMITERS", "Source", "Table", "read_table"]

Source: TypeAlias = str | PathLike[str] | IO[Any]
"""A path, or a file that is open for reading, in text or binary mode."""

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between cells where the delimiter is not told, the likeliest first."""

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_MARKS = {  # Of UTF-32 first: its mark begins with that of UTF-16.
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WESTERN = "cp1252"  # what browsers take undeclared text for, and most of it is
_FAULTS = {  # parts of the messages of the module csv
    "unexpected end of data": "a quote opens in this row and is never closed",
    "field larger than field limit": "a cell of over 131072 characters; is this a CSV file?",
}
_SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]+', re.IGNORECASE)  # the first line that Excel writes


@dataclass(frozen=True)
class Table:
    """A header, and rows of as many cells.

    Attributes
    ----------
    name : str
        The file, for messages.
    header : list of str
    rows : list of list of str
        Cells as they are written; rows of blank cells are left out.
    lines : list of int
        The line of the file on which each row begins; the first line is 1.
    encoding, delimiter : str
        What the file was read with; the encoding is "text" where it was open in text mode.
    sha256 : str
        Of the file's bytes, decompressed, in hexadecimal.
    """

    name: str
    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    encoding: str
    delimiter: str
    sha256: str

    def fail(self, row: int, column: str, message: str) -> InputError:
        """Error about one cell, with its line and column."""
        return InputError(f"{self.name}, line {self.lines[row]}, column {column!r}: {message}")

    def has(self, column: str) -> bool:
        """True if there is a column of this name."""
        return column in self._places

    def column(self, column: str) -> list[str]:
        """Cells of one column.

        Raises
        ------
        InputError
            If there is no such column, or more than one.
        """
        if column not in self._places:
            raise InputError(f"{self.name}: no column {column!r}; its columns are {self.columns}")
        if self.header.count(column) > 1:
            raise InputError(
                f"{self.name}: column {column!r} stands {self.header.count(column)} times in the "
                "header: rename all but one"
            )
        at = self._places[column]
        return [row[at] for row in self.rows]

    def names(self, column: str) -> list[str]:
        """Cells of one column as names, each on one line of the file and none of them empty.

        Raises
        ------
        InputError
            Naming line and column; also if there is no such column, or more than one.
        """
        names = []
        for row, text in enumerate(self.column(column)):
            if "\n" in text or "\r" in text:
                raise self.fail(row, column, "several lines in a cell: is a quote never closed?")
            try:
                name = tidy(text)
            except InputError as error:
                raise self.fail(row, column, str(error)) from None
            if not name:
                raise self.fail(row, column, "empty: give a name or remove the row")
            names.append(name)
        return names

    @property
    def columns(self) -> str:
        """The names of the columns in words, and what separates them if there is one only."""
        found = listed(self.header, repr)
        if len(self.header) > 1:
            return found
        words = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        return f"{found} alone, read with {words} between cells (say delimiter= for another)"

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.header)}


def read_table(
    source: Source,
    *,
    needed: Sequence[str],
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Table:
    """Read a table whose first row names the columns.

    Parameters
    ----------
    source : path, or file open for reading
        Gzipped or not.
    needed : sequence of str
        Columns by which a delimiter is recognised: the one under which the header holds them all.
    encoding : str, optional
        Default: by the byte-order mark, else UTF-8, else the likeliest (with a warning).
    delimiter : str, optional
        One character. Default: what a first line ``sep=;`` says, else one of
        :data:`DELIMITERS`.

    Raises
    ------
    InputError
        If the source cannot be read or is empty, is not text, or has a quote that is never closed
        or a row with more or fewer cells than the header; the message names the line.
    """
    name, data = _content(source)
    if isinstance(data, str):
        text, encoding = _checked(name, data).removeprefix("\ufeff"), "text"
        data = text.encode("utf-8", "surrogatepass")
    else:
        data = _unzipped(name, data)
        text, encoding = _decoded(name, data, encoding)
    stated = _SEPARATOR.match(text)
    skipped = 0
    if stated is not None:
        delimiter, skipped = delimiter or stated[1], 1
        text = text[stated.end() :]
    is_sign = isinstance(delimiter, str) and len(delimiter) == 1 and delimiter not in '"\r\n'
    if delimiter is not None and not is_sign:
        raise InputError(f"delimiter {delimiter!r} must be one character, such as ';'")
    separator = delimiter or _delimiter(name, text, needed)
    header, rows, lines = _read(name, text, separator, skipped)
    digest = hashlib.sha256(data).hexdigest()
    return Table(name, header, rows, lines, encoding, separator, digest)


def _read(
    name: str, text: str, delimiter: str, skipped: int
) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, rows, and the line on which each row begins; blank rows are left out."""
    header: list[str] = []
    rows, lines = [], []
    for line, row in _records(name, text, delimiter, skipped):
        if not any(map(str.strip, row)):
            continue
        if not header:
            header = _header(name, line, row)
            continue
        rows.append(_fitted(name, line, row, header, delimiter))
        lines.append(line)
    if not header:
        raise InputError(f"{name} is empty: the first row must name the columns")
    return header, rows, lines


def _content(source: Source) -> tuple[str, bytes | str]:
    """A name for messages, and all that the source holds."""
    if isinstance(source, str | PathLike):
        path = Path(fspath(source))
        try:
            return str(path), path.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot read {path}: {reason}") from error
    name = getattr(source, "name", None)
    name = name if isinstance(name, str) else "the open file"
    try:
        content = source.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: {error}: open it in binary mode") from error
    except (AttributeError, OSError, ValueError, TypeError) as error:
        raise InputError(f"cannot read {name}: {error}: give a path or an open file") from error
    if not isinstance(content, bytes | str):
        kind = type(content).__name__
        raise InputError(f"{name} gives {kind}: give a file open in text or binary mode")
    return name, content


def _unzipped(name: str, data: bytes) -> bytes:
    """Bytes without their gzip compression, if they have one."""
    if data.startswith(_ZIP):
        raise InputError(f"{name} is a ZIP archive or a workbook: give the text file in it, as CSV")
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} is a damaged gzip file ({error}): compress it again") from error


def _decoded(name: str, data: bytes, encoding: str | None) -> tuple[str, str]:
    """The text, and the encoding that it was read in."""
    if encoding is None:
        for mark, own in _MARKS.items():
            if data.startswith(mark):
                return _strictly(name, data, own), own
        if b"\x00" not in data:
            try:
                return data.decode("utf-8"), "utf-8"
            except UnicodeDecodeError:
                pass
        return _guessed(name, data)
    return _strictly(name, data, encoding).removeprefix("\ufeff"), encoding


def _strictly(name: str, data: bytes, encoding: str) -> str:
    try:
        return _checked(name, data.decode(encoding))
    except (LookupError, TypeError) as error:
        raise InputError(
            f"encoding {encoding!r} is not known: give one such as 'cp1252'"
        ) from error
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = data[:start].count(b"\n") + 1
        raise InputError(
            f"{name}, line {line}: not {encoding} text ({error}): give another encoding="
        ) from error


def _checked(name: str, text: str) -> str:
    """The text, unless it holds what no text does."""
    if "\x00" in text:
        raise _no_text(name)
    return text


def _no_text(name: str) -> InputError:
    return InputError(
        f"{name} is no text file, it holds NUL bytes: give a table as text, such as the CSV that a "
        "spreadsheet saves; if it is one, say its encoding=, such as 'utf-16-le'"
    )


def _guessed(name: str, data: bytes) -> tuple[str, str]:
    """The likeliest encoding, with a warning that shows what came of it."""
    from charset_normalizer import from_bytes

    matches = list(from_bytes(data))
    if not matches:
        if b"\x00" in data:
            raise _no_text(name)
        raise InputError(f"{name} is not UTF-8, nor any text that can be told: give encoding=")
    best = matches[0]
    equal = [
        each for each in matches if (each.chaos, each.coherence) == (best.chaos, best.coherence)
    ]
    best = next((each for each in equal if _WESTERN in each.could_be_from_charset), best)
    encoding = _WESTERN if _WESTERN in best.could_be_from_charset else best.encoding
    text = _strictly(name, data, encoding)
    example = next(iter(re.findall(r"\w*[^\W\x00-\x7f]\w*", text)), "")
    others = [each.encoding for each in equal if each is not best]
    also = f"; {listed(others, most=3)} fit as well" if others else ""
    warnings.warn(
        f"{name} is not UTF-8; it was read as {encoding} ({example!r}{also}): say encoding= "
        "to be sure",
        stacklevel=6,  # what calls the reader of clients or of texts
    )
    return text, encoding


def _delimiter(name: str, text: str, needed: Sequence[str]) -> str:
    """The delimiter under which the header holds the needed columns; else a comma."""
    for candidate, words in DELIMITERS.items():
        with_it = csv.reader(io.StringIO(text, newline=""), delimiter=candidate)
        try:
            header = next((row for row in with_it if any(cell.strip() for cell in row)), [])
        except csv.Error:
            continue
        if {cell.strip() for cell in header}.issuperset(needed):
            if candidate != ",":
                warnings.warn(
                    f"{name} was read with {words} between cells: say delimiter={candidate!r} to "
                    "be sure",
                    stacklevel=5,  # what calls the reader of clients or of texts
                )
            return candidate
    return ","


def _records(name: str, text: str, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1 + skipped
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = next((words for part, words in _FAULTS.items() if part in str(error)), error)
            raise InputError(
                f"{name}, line {line}: {reason}: repair the quoting of this row"
            ) from error


def _header(name: str, line: int, row: Sequence[str]) -> list[str]:
    """Names of the columns, without unnamed ones at the end."""
    try:
        header = list(map(tidy, row))
    except InputError as error:
        raise InputError(f"{name}, line {line}: {error}") from None
    while header and not header[-1]:
        header.pop()
    return header


def _fitted(
    name: str, line: int, row: list[str], header: Sequence[str], delimiter: str
) -> list[str]:
    """A row without the blank cells beyond the header, or an error about its length."""
    n_columns = len(header)
    if len(row) == n_columns:
        return row
    if len(row) > n_columns and not any(map(str.strip, row[n_columns:])):
        return row[:n_columns]
    lost = f"; column {header[len(row)]!r} is missing" if len(row) < n_columns else ""
    found = Counter(sign for sign in DELIMITERS for cell in row if sign in cell)
    words = DELIMITERS.get(delimiter, repr(delimiter))
    hint = f": complete the row, or quote the cells that hold {words}"
    if len(row) == 1 and found:
        hint = f": is it {DELIMITERS[found.most_common(1)[0][0]]} that separate cells here?"
    raise InputError(
        f"{name}, line {line}: {len(row)} fields, the header has {n_columns}{lost}{hint}"
    )
