"""Next-word prediction on short texts: from a CSV file or any other source to a task."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.decoding import Source
from hasa_opt._utils.names import distinct, tidy
from hasa_opt._utils.streams import client_number, generator
from hasa_opt._utils.tables import DELIMITERS, Table, read_table
from hasa_opt.errors import InputError
from hasa_opt.models.targets import IGNORED, OUTSIDE
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.task import PADDING, UNKNOWN, Task, split_rows
from hasa_opt.tasks.tokens import Tokenizer, Tokens, encoded, tokenize, vocabulary

__all__ = ["build", "check_options", "text_csv", "titles"]

_MIN_TOKENS = 2  # a next word needs one before it
_MIN_TEXTS = 3  # one for each split


def text_csv(
    path: Source,
    *,
    text: str,
    client: str,
    seed: int = 0,
    min_count: int = 3,
    max_tokens: int = 12,
    tokenizer: Tokenizer = "words",
    encoding: str | None = None,
    delimiter: str | None = None,
    name: str | None = None,
) -> Task:
    """Build next-word prediction from delimited text, such as a CSV file, with one text per row.

    Parameters
    ----------
    path : path, or file open for reading
        With a header row; in text or binary mode, gzipped or not.
    text, client : str
        The columns that hold the text and the name of the client that owns it.
    seed : int
        As in :func:`build`; so are the next three.
    min_count : int
    max_tokens : int
    tokenizer : {"words", "characters"} or function
    encoding : str, optional
        Default: UTF-8 where the bytes are that, or what a byte-order mark says; else the
        likeliest, with a warning that says which.
    delimiter : str, optional
        One character. Default: a comma, or the semicolon, tab or bar that separates the columns
        of the header, with a warning that says so.
    name : str, optional
        Name of the task. Default: the file's name without its ending.

    Returns
    -------
    Task

    Raises
    ------
    InputError
        If the file or a column is missing, the file is empty or no text, a row is cut short, a
        quote is never closed, or the texts break a rule of :func:`build`. The message names file,
        row and column.
    """
    columns = [tidy(column) for column in (client, text)]
    table = read_table(path, needed=columns, encoding=encoding, delimiter=delimiter)
    owners, contents = table.names(columns[0]), table.column(columns[1])
    _refuse_swallowed(table, columns[0], set(owners))
    texts: dict[str, list[str]] = {}
    for owner, content in zip(owners, contents, strict=True):
        texts.setdefault(owner, []).append(content)
    return build(
        name or Path(table.name).name.removesuffix(".gz").rsplit(".", 1)[0],
        texts,
        seed=seed,
        min_count=min_count,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        fingerprint=_source(table, text, client),
    )


def titles(
    path: Source, *, seed: int = 0, encoding: str | None = None, delimiter: str | None = None
) -> Task:
    """Article titles of seven publications, the language benchmark of arXiv:2606.07621.

    Parameters
    ----------
    path : path of the public "Medium Articles" CSV file
        With the columns ``title`` and ``publication``. The file is not part of this package.
    seed : int
        Seed of the splits.
    encoding : str, optional
        As in :func:`text_csv`; so is the next one.
    delimiter : str, optional

    Returns
    -------
    Task
    """
    return text_csv(
        path,
        text="title",
        client="publication",
        seed=seed,
        encoding=encoding,
        delimiter=delimiter,
        name="titles",
    )


def build(
    name: str,
    texts: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
    min_count: int = 3,
    max_tokens: int = 12,
    tokenizer: Tokenizer = "words",
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
    tokenizer : {"words", "characters"} or function
        What a word is, see :func:`tokenize`.
    fingerprint : dict of str to str, optional
        What identifies the source of the texts.

    Returns
    -------
    Task
        Inputs and targets of shape ``(n, max_tokens - 1)``; ids 0 padding, 1 unknown, then words.

    Raises
    ------
    InputError
        For an option outside its range, a single client, two names of one client, a client with
        too few texts, or a text that is not a string.
    """
    check_options(min_count, max_tokens)
    usable = _deduplicate(_checked(name, texts), max_tokens, tokenizer)
    _check_clients(name, usable)
    train, validation, test = _dealt(usable, seed)
    labels = ("<padding>", "<unknown>", *vocabulary(train, min_count))
    ids = {word: index for index, word in enumerate(labels)}
    length = max_tokens - 1
    return Task(
        name=name,
        client_names=tuple(usable),
        train=tuple(_encode(lines, ids, length) for lines in train),
        validation=tuple(_encode(lines, ids, length) for lines in validation),
        test=tuple(_encode(lines, ids, length) for lines in test),
        counts=_count(train, ids),
        n_outputs=len(labels),
        labels=labels,
        fingerprint={
            **(fingerprint or {}),
            "texts": str(sum(map(len, usable.values()))),
            "texts sha256": _checksum(usable),
            "vocabulary": f"{len(labels)} tokens (words with {min_count} or more occurrences)",
            "seed of the splits": str(seed),
            **_named(tokenizer),
        },
        loss="next_token",
    )


def check_options(min_count: int, max_tokens: int) -> None:
    """Refuse a ``min_count`` under 1 and a ``max_tokens`` under 2 with an :class:`InputError`."""
    if min_count < 1:
        raise InputError(f"min_count is {min_count}: it must be at least 1")
    if max_tokens < _MIN_TOKENS:
        raise InputError(f"max_tokens is {max_tokens}: a next word needs at least 2")


def _named(tokenizer: Tokenizer) -> dict[str, str]:
    """The tokenizer in the fingerprint, where it is not the default."""
    if tokenizer == "words":
        return {}
    name = getattr(tokenizer, "__qualname__", type(tokenizer).__qualname__)
    return {"tokenizer": f"function {name}" if callable(tokenizer) else tokenizer}


def _source(table: Table, text: str, client: str) -> dict[str, str]:
    """What identifies the file that texts were read from."""
    source = {
        "file": Path(table.name).name,
        "file sha256": table.sha256,
        "columns": f"text={text}, client={client}",
        "rows": str(len(table)),
    }
    if table.encoding not in ("utf-8", "utf-8-sig", "text") or table.delimiter != ",":
        words = DELIMITERS.get(table.delimiter, repr(table.delimiter))
        source["read as"] = f"{table.encoding}, {words} between cells"
    return source


def _dealt(texts: Mapping[str, Sequence[Tokens]], seed: int) -> list[list[list[Tokens]]]:
    """Texts of each split, of each client."""
    rows = [
        split_rows(len(lines), generator(seed, client_number(name)))
        for name, lines in texts.items()
    ]
    return [
        [
            [lines[row] for row in chosen[part]]
            for lines, chosen in zip(texts.values(), rows, strict=True)
        ]
        for part in range(3)
    ]


def _refuse_swallowed(table: Table, client: str, known: set[str]) -> None:
    """Refuse a cell with a line that is itself a row of a known client: its quote is not closed."""
    at = table.header.index(client)
    for row, cells in enumerate(zip(*table.cells, strict=True)):
        for column, cell in enumerate(cells):
            inner = cell.splitlines()[1:] if "\n" in cell or "\r" in cell else ()
            for parts in csv.reader(inner, delimiter=table.delimiter):
                if len(parts) == len(table.header) and parts[at].strip() in known:
                    raise table.fail(
                        row,
                        table.header[column],
                        f"the cell holds a row of {parts[at]!r}: is a quote never closed?",
                    )


def _checked(name: str, texts: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The texts by tidy names, each a string."""
    if not isinstance(texts, Mapping):
        raise InputError(f"{name}: texts are a {type(texts).__name__}: give a dict of client names")
    names = distinct(texts, f"{name}: client names")
    for client, lines in zip(names, texts.values(), strict=True):
        if isinstance(lines, str):
            raise InputError(f"{name}: client {client!r} has one string: give a list of texts")
        for at, text in enumerate(lines):
            if not isinstance(text, str):
                raise InputError(
                    f"{name}: text {at} of client {client!r} is {text!r}: give strings"
                )
    return dict(zip(names, texts.values(), strict=True))


def _deduplicate(
    texts: Mapping[str, Sequence[str]], max_tokens: int, tokenizer: Tokenizer
) -> dict[str, list[Tokens]]:
    seen: set[Tokens] = set()
    usable: dict[str, list[Tokens]] = {client: [] for client in texts}
    for client, lines in texts.items():
        for text in lines:
            tokens = tokenize(text, max_tokens=max_tokens, tokenizer=tokenizer)
            if len(tokens) >= _MIN_TOKENS and tokens not in seen:
                seen.add(tokens)
                usable[client].append(tokens)
    return usable


def _check_clients(name: str, usable: Mapping[str, Sequence[Tokens]]) -> None:
    if not usable:
        raise InputError(f"{name}: there are no texts: give rows for at least two clients")
    if len(usable) == 1:
        raise InputError(
            f"{name}: all texts belong to one client, {next(iter(usable))!r}: "
            "federated training needs at least two; is this the right client column?"
        )
    for client, texts in usable.items():
        if len(texts) < _MIN_TEXTS:
            raise InputError(
                f"{name}: client {client!r} has {len(texts)} distinct text(s) of two or more "
                f"words: at least {_MIN_TEXTS} are needed, one for each split; add texts, leave "
                'the client out, or take tokenizer="characters" where no blanks part the words'
            )


def _count(train: Sequence[Sequence[Tokens]], ids: Mapping[str, int]) -> sp.csr_array:
    """Training tokens of each client, ``(n_clients, vocabulary)``; unknown words count as id 1."""
    columns = [
        Counter(ids.get(word, UNKNOWN) for tokens in texts for word in tokens) for texts in train
    ]
    owners = np.repeat(np.arange(len(train)), [len(counted) for counted in columns])
    flat: list[int] = [column for counted in columns for column in counted]
    values: IntArray = np.array([n for counted in columns for n in counted.values()], np.int64)
    return sp.csr_array((values, (owners, flat)), shape=(len(train), len(ids)))


def _encode(texts: Sequence[Tokens], ids: Mapping[str, int], length: int) -> Split:
    inputs = encoded([tokens[:-1] for tokens in texts], ids, UNKNOWN, PADDING, length)
    targets = encoded([tokens[1:] for tokens in texts], ids, OUTSIDE, IGNORED, length)
    return Split(inputs, targets)


def _checksum(texts: Mapping[str, Sequence[Tokens]]) -> str:
    digest = hashlib.sha256()
    for client, lines in texts.items():
        digest.update(f"{client}\n".encode())
        digest.update("".join(" ".join(tokens) + "\n" for tokens in lines).encode())
    return digest.hexdigest()
