"""Next-word prediction on short texts: from a CSV file or any other source to a task."""

from __future__ import annotations

import csv
import hashlib
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hasa_opt._utils.checks import IntArray, listed
from hasa_opt._utils.streams import generator
from hasa_opt.errors import InputError
from hasa_opt.tasks.task import (
    IGNORED,
    OUTSIDE,
    PADDING,
    UNKNOWN,
    Split,
    Task,
    split_rows,
)

__all__ = ["build", "check_options", "text_csv", "titles", "tokenize"]

_WORD = re.compile(r"\w+(?:'\w+)*")
_TAG = re.compile(r"</?[a-z][^<>]*>")
_MIN_TOKENS = 2
_MIN_TEXTS = 3

Tokens = tuple[str, ...]


def tokenize(text: str, *, max_tokens: int = 12) -> Tokens:
    """Lower-case words of a text, without punctuation and HTML markup.

    Parameters
    ----------
    text : str
    max_tokens : int
        Words after these are cut off.

    Examples
    --------
    >>> tokenize("A <em>Beginner\u2019s</em> Guide &amp; More")
    ('a', "beginner's", 'guide', 'more')
    """
    plain = unicodedata.normalize("NFKC", html.unescape(text)).replace("\u2019", "'").lower()
    return tuple(_WORD.findall(_TAG.sub(" ", plain))[:max_tokens])


def text_csv(
    path: str | PathLike[str],
    *,
    text: str,
    client: str,
    seed: int = 0,
    min_count: int = 3,
    max_tokens: int = 12,
    name: str | None = None,
) -> Task:
    """Build next-word prediction from a CSV file with one text per row.

    Parameters
    ----------
    path : path of a UTF-8 CSV file with a header row
    text, client : str
        The columns that hold the text and the name of the client that owns it.
    seed, min_count, max_tokens
        As in :func:`build`.
    name : str, optional
        Name of the task. Default: the file's name without its ending.

    Raises
    ------
    InputError
        If the file or a column is missing, the file is empty or not UTF-8, a row is cut short,
        or the texts break a rule of :func:`build`. The message names file, row and column.
    """
    path = Path(path)
    texts: dict[str, list[str]] = {}
    for owner, content in _read(path, client, text):
        texts.setdefault(owner, []).append(content)
    source = {
        "file": path.name,
        "file sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "columns": f"text={text}, client={client}",
        "rows": str(sum(map(len, texts.values()))),
    }
    return build(
        name or path.stem,
        texts,
        seed=seed,
        min_count=min_count,
        max_tokens=max_tokens,
        fingerprint=source,
    )


def titles(path: str | PathLike[str], *, seed: int = 0) -> Task:
    """Article titles of seven publications, the language benchmark of arXiv:2606.07621.

    Parameters
    ----------
    path : path of the public "Medium Articles" CSV file
        With the columns ``title`` and ``publication``. The file is not part of this package.
    seed : int
        Seed of the splits.
    """
    return text_csv(path, text="title", client="publication", seed=seed, name="titles")


def build(
    name: str,
    texts: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
    min_count: int = 3,
    max_tokens: int = 12,
    fingerprint: Mapping[str, str] | None = None,
) -> Task:
    """Build next-word prediction from the texts of each client.

    Texts with fewer than two words are dropped, and so is a text whose first ``max_tokens`` words
    came before, at any client. Each client's texts are split 70/15/15 by seed. The vocabulary and
    the counts come from the training texts alone; column j of the counts is token id j.

    Parameters
    ----------
    name : str
        Name of the task.
    texts : dict of client name to texts
        At least two clients, each with at least three usable texts.
    seed : int
        Seed of the splits.
    min_count : int
        Words that occur less often in all training texts together become the unknown word.
    max_tokens : int
        Words that are kept of each text, at least 2.
    fingerprint : dict of str to str, optional
        What identifies the source of the texts.

    Returns
    -------
    Task
        Inputs and targets of shape ``(n, max_tokens - 1)``; ids 0 padding, 1 unknown, then words.

    Raises
    ------
    InputError
        For an option outside its range, a single client, or a client with too few texts.
    """
    check_options(min_count, max_tokens)
    usable = _deduplicate(texts, max_tokens)
    _check_clients(name, texts, usable)
    rows = [
        split_rows(len(own), generator(seed, index)) for index, own in enumerate(usable.values())
    ]
    train, validation, test = (
        [
            [own[row] for row in chosen[part]]
            for own, chosen in zip(usable.values(), rows, strict=True)
        ]
        for part in range(3)
    )
    labels = ("<padding>", "<unknown>", *_vocabulary(train, min_count))
    ids = {word: index for index, word in enumerate(labels)}
    length = max_tokens - 1
    return Task(
        name=name,
        client_names=tuple(usable),
        train=tuple(_encode(own, ids, length) for own in train),
        validation=tuple(_encode(own, ids, length) for own in validation),
        test=tuple(_encode(own, ids, length) for own in test),
        counts=_count(train, ids),
        n_outputs=len(labels),
        labels=labels,
        fingerprint={
            **(fingerprint or {}),
            "texts": str(sum(map(len, usable.values()))),
            "texts sha256": _checksum(usable),
            "vocabulary": f"{len(labels)} tokens (words with {min_count} or more occurrences)",
            "seed of the splits": str(seed),
        },
    )


def check_options(min_count: int, max_tokens: int) -> None:
    """Refuse a ``min_count`` under 1 and a ``max_tokens`` under 2 with an :class:`InputError`."""
    if min_count < 1:
        raise InputError(f"min_count is {min_count}: it must be at least 1")
    if max_tokens < _MIN_TOKENS:
        raise InputError(f"max_tokens is {max_tokens}: a next word needs at least 2")


def _read(path: Path, client: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the client and the text of each row, with the row number in every error."""
    if not path.is_file():
        raise InputError(f"{path}: no such file: give the path of a CSV file")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            header = next(reader, [])
            columns = _locate(path, header, (client, text))
            for row in reader:
                if row:
                    yield _cells(path, reader.line_num, row, header, columns)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: not UTF-8 text ({error.reason}): save it as UTF-8"
            ) from error
        except csv.Error as error:
            raise InputError(
                f"{path}, line {reader.line_num}: {error}: repair the quoting of this row"
            ) from error


def _locate(path: Path, header: Sequence[str], names: Sequence[str]) -> list[int]:
    if not header:
        raise InputError(f"{path}: the file is empty: the first row must name the columns")
    for name in names:
        if name not in header:
            known = listed(header, repr)
            raise InputError(f"{path}: no column {name!r}: the file has {known}")
    return [header.index(name) for name in names]


def _cells(
    path: Path, line: int, row: Sequence[str], header: Sequence[str], columns: Sequence[int]
) -> tuple[str, str]:
    if len(row) != len(header):
        raise InputError(
            f"{path}, line {line}: {len(row)} cells in a table of {len(header)} columns: "
            "complete the row, or quote the cells that hold a comma"
        )
    owner, content = (row[column] for column in columns)
    if not owner.strip():
        raise InputError(
            f"{path}, line {line}, column {header[columns[0]]!r}: the client's name is empty: "
            "name it or remove the row"
        )
    return owner.strip(), content


def _deduplicate(texts: Mapping[str, Sequence[str]], max_tokens: int) -> dict[str, list[Tokens]]:
    seen: set[Tokens] = set()
    usable: dict[str, list[Tokens]] = {client: [] for client in texts}
    for client, own in texts.items():
        for text in own:
            tokens = tokenize(text, max_tokens=max_tokens)
            if len(tokens) >= _MIN_TOKENS and tokens not in seen:
                seen.add(tokens)
                usable[client].append(tokens)
    return usable


def _check_clients(
    name: str, texts: Mapping[str, Sequence[str]], usable: Mapping[str, Sequence[Tokens]]
) -> None:
    if not texts:
        raise InputError(f"{name}: there are no texts: give rows for at least two clients")
    if len(texts) == 1:
        raise InputError(
            f"{name}: all texts belong to one client, {next(iter(texts))!r}: "
            "federated training needs at least two; is this the right client column?"
        )
    for client, own in usable.items():
        if len(own) < _MIN_TEXTS:
            raise InputError(
                f"{name}: client {client!r} has {len(own)} distinct text(s) of two or more words: "
                f"at least {_MIN_TEXTS} are needed, one for each split; "
                "add texts or leave the client out"
            )


def _vocabulary(train: Sequence[Sequence[Tokens]], min_count: int) -> list[str]:
    """Words of the training texts, the most frequent first, ties in alphabetical order."""
    counts = Counter(word for own in train for tokens in own for word in tokens)
    kept = [word for word, count in counts.items() if count >= min_count]
    return sorted(kept, key=lambda word: (-counts[word], word))


def _count(train: Sequence[Sequence[Tokens]], ids: Mapping[str, int]) -> sp.csr_array:
    """Training tokens of each client, ``(n_clients, vocabulary)``; unknown words count as id 1."""
    columns = [
        Counter(ids.get(word, UNKNOWN) for tokens in own for word in tokens) for own in train
    ]
    owners = np.repeat(np.arange(len(train)), [len(own) for own in columns])
    flat: list[int] = [column for own in columns for column in own]
    values: IntArray = np.array([count for own in columns for count in own.values()], np.int64)
    return sp.csr_array((values, (owners, flat)), shape=(len(train), len(ids)))


def _encode(texts: Sequence[Tokens], ids: Mapping[str, int], length: int) -> Split:
    inputs = torch.full((len(texts), length), PADDING, dtype=torch.int64)
    targets = torch.full((len(texts), length), IGNORED, dtype=torch.int64)
    for row, tokens in enumerate(texts):
        steps = len(tokens) - 1
        inputs[row, :steps] = _lookup(tokens[:-1], ids, UNKNOWN)
        targets[row, :steps] = _lookup(tokens[1:], ids, OUTSIDE)
    return Split(inputs, targets)


def _lookup(words: Sequence[str], ids: Mapping[str, int], missing: int) -> Tensor:
    return torch.tensor([ids.get(word, missing) for word in words], dtype=torch.int64)


def _checksum(texts: Mapping[str, Sequence[Tokens]]) -> str:
    digest = hashlib.sha256()
    for client, own in texts.items():
        digest.update(f"{client}\n".encode())
        digest.update("".join(" ".join(tokens) + "\n" for tokens in own).encode())
    return digest.hexdigest()
