"""Delimited text as people have it: any encoding and delimiter, gzipped, a path or an open file.

What is not told is detected, and what was detected beside UTF-8 and a known delimiter is said in a
warning. What the columns mean is for others to say.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import listed
from hasa_opt._utils.decoding import Source, checked_text, content, decoded, unzipped
from hasa_opt._utils.names import plain_names, tidy
from hasa_opt.errors import InputError

__all__ = ["DELIMITERS", "Table", "read_table"]

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between cells where the delimiter is not told, the likeliest first."""

_FAULTS = {  # parts of the messages of the module csv
    "unexpected end of data": "a quote opens in this row and is never closed",
    "field larger than field limit": "a cell of over 131072 characters; is this a CSV file?",
}
_BEGINNING = 1 << 20  # characters that the header lies within
_SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]+', re.IGNORECASE)  # the first line that Excel writes


@dataclass(frozen=True)
class Table:
    """A header, and rows of as many cells.

    Attributes
    ----------
    name : str
        The file, for messages.
    header : list of str
    cells : list of list of str
        Of each column, as they are written; rows of blank cells are left out.
    lines : sequence of int
        The line of the file on which each row begins; the first line is 1.
    encoding, delimiter : str
        What the file was read with; the encoding is "text" where it was open in text mode.
    sha256 : str
        Of the file's bytes, decompressed, in hexadecimal.
    """

    name: str
    header: list[str]
    cells: list[list[str]]
    lines: Sequence[int]
    encoding: str
    delimiter: str
    sha256: str

    def __len__(self) -> int:
        return len(self.lines)

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
        return self.cells[self._places[column]]

    def names(self, column: str) -> list[str]:
        """Cells of one column as names, each on one line of the file and none of them empty.

        Raises
        ------
        InputError
            Naming line and column; also if there is no such column, or more than one.
        """
        texts, names = self.column(column), []
        plain = plain_names(texts)
        if plain is not None:
            return plain
        for row, text in enumerate(texts):
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
    name, data = content(source)
    if isinstance(data, str):
        text, encoding = checked_text(name, data).removeprefix("\ufeff"), "text"
        data = text.encode("utf-8", "surrogatepass")
    else:
        data = unzipped(name, data)
        text, encoding = decoded(name, data, encoding)
    stated = _SEPARATOR.match(text)
    skipped = 0
    if stated is not None:
        delimiter, skipped = delimiter or stated[1], 1
        text = text[stated.end() :]
    is_sign = isinstance(delimiter, str) and len(delimiter) == 1 and delimiter not in '"\r\n'
    if delimiter is not None and not is_sign:
        raise InputError(f"delimiter {delimiter!r} must be one character, such as ';'")
    separator = delimiter or _delimiter(name, text, needed)
    header, cells, lines = _split(text, separator, skipped) or _read(name, text, separator, skipped)
    digest = hashlib.sha256(data).hexdigest()
    return Table(name, header, cells, lines, encoding, separator, digest)


class _Cells(NamedTuple):
    """Header, columns, and the line on which each row begins."""

    header: list[str]
    columns: list[list[str]]
    lines: Sequence[int]


def _split(text: str, delimiter: str, skipped: int) -> _Cells | None:
    """The cells of a text in which delimiters and line ends are all that has a meaning.

    None where a quote, an unusual line end, a row of another length or a blank one needs more.
    """
    text = text.replace("\r\n", "\n").removesuffix("\n") + "\n"
    if '"' in text or "\r" in text or not delimiter.isascii():
        return None
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
    ends = np.flatnonzero((data == ord(delimiter)) | (data == ord("\n")))
    width = text.count(delimiter, 0, text.index("\n")) + 1
    is_last = (data[ends] == ord("\n")).reshape(-1, width) if ends.size % width == 0 else None
    if is_last is None or not is_last[:, -1].all() or is_last[:, :-1].any():
        return None
    if np.diff(ends, prepend=-1).max() > csv.field_size_limit():
        return None
    cells = text[:-1].replace("\n", delimiter).split(delimiter)
    columns = [cells[at::width] for at in range(width)]
    if not all(map(str.strip, columns[0])):
        return None
    try:
        header = [tidy(column[0]) for column in columns]
    except InputError:
        return None
    if not all(header):
        return None
    lines = range(skipped + 2, skipped + 1 + len(columns[0]))
    return _Cells(header, [column[1:] for column in columns], lines)


def _read(name: str, text: str, delimiter: str, skipped: int) -> _Cells:
    """The cells of any text; blank rows are left out."""
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
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    return _Cells(header, columns, lines)


def _delimiter(name: str, text: str, needed: Sequence[str]) -> str:
    """The delimiter under which the header holds the needed columns; else a comma."""
    beginning = text[:_BEGINNING]
    for candidate, words in DELIMITERS.items():
        with_it = csv.reader(io.StringIO(beginning, newline=""), delimiter=candidate)
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
