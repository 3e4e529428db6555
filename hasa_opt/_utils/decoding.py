"""Text in whatever bytes people have it: a path or an open file, gzipped, in any encoding.

What is not told is detected, and what was detected beside UTF-8 is said in a warning.
"""

from __future__ import annotations

import codecs
import gzip
import re
import warnings
import zlib
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, TypeAlias

from hasa_opt._utils.checks import listed
from hasa_opt.errors import InputError

__all__ = ["Source", "checked_text", "content", "decoded", "unzipped"]

Source: TypeAlias = str | PathLike[str] | IO[Any]
"""A path, or a file that is open for reading, in text or binary mode."""

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_MARKS = {  # Of UTF-32 first: its mark begins with that of UTF-16.
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WESTERN = "cp1252"  # what browsers take undeclared text for, and most of it is


def content(source: Source) -> tuple[str, bytes | str]:
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


def unzipped(name: str, data: bytes) -> bytes:
    """Bytes without their gzip compression, if they have one."""
    if data.startswith(_ZIP):
        raise InputError(f"{name} is a ZIP archive or a workbook: give the text file in it, as CSV")
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name} is a damaged gzip file ({error}): compress it again") from error


def decoded(name: str, data: bytes, encoding: str | None) -> tuple[str, str]:
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
        return checked_text(name, data.decode(encoding))
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


def checked_text(name: str, text: str) -> str:
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
