"""Items of datasets: where they hold inputs and target, and what these become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from hasa_opt._utils.checks import IntArray, listed
from hasa_opt.errors import InputError
from hasa_opt.tasks.labels import are_labels, class_names, numbered
from hasa_opt.tasks.learning import Loss, takes_classes
from hasa_opt.tasks.pixels import is_image, pixels
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.task import PADDING, UNKNOWN
from hasa_opt.tasks.tokens import encoded, tokenize, vocabulary

__all__ = ["Reader", "Source"]


@dataclass(frozen=True, eq=False)
class Source:
    """Some items of one client's dataset.

    Attributes
    ----------
    client : str
    dataset : Dataset
    rows : (n,) int64
        Which items; there may be none.
    """

    client: str
    dataset: Any
    rows: IntArray

    def columns(self, keys: Sequence[str | int], rows: Sequence[int]) -> list[list[Any]]:
        """Read what items hold in some places.

        Raises
        ------
        InputError
            If an item has no such place.
        """
        found: list[list[Any]] = [[] for _ in keys]
        for row, item in zip(rows, self._items(keys, rows), strict=True):
            for key, column in zip(keys, found, strict=True):
                try:
                    column.append(item[key])
                except (KeyError, IndexError, TypeError) as error:
                    kind = f"the columns {tuple(item)}" if isinstance(item, Mapping) else type(item)
                    raise InputError(
                        f"item {row} of the dataset of client {self.client!r} has no {error} but "
                        f"is of {kind}: say where inputs and target are, such as "
                        "inputs='image', target='label'"
                    ) from error
        return found

    def _items(self, keys: Sequence[str | int], rows: Sequence[int]) -> list[Any]:
        """Read items, together and without other columns where the dataset can."""
        dataset = self.dataset
        if set(keys) <= set(getattr(dataset, "column_names", None) or ()):
            dataset = dataset.select_columns(list(keys))
        if callable(together := getattr(dataset, "__getitems__", None)):
            return list(together(list(rows)))
        return [dataset[row] for row in rows]

    @property
    def read(self) -> list[int]:
        """Rows to read: of none the first, which shows the kind."""
        return self.rows.tolist() or [0]


@dataclass(frozen=True)
class Reader:
    """What items of datasets become.

    Parameters
    ----------
    inputs, target : tuple of str or int
        Where an item holds them.
    loss : str or function
        What the targets are for.
    max_tokens : int
        Words that are kept of a text.
    labels : tuple of str
        Names of the classes, or none.
    words : dict of str to int, optional
        Ids of the words of training texts, where inputs are texts.
    """

    inputs: tuple[str | int, ...]
    target: tuple[str | int, ...]
    loss: Loss
    max_tokens: int
    labels: tuple[str, ...] = ()
    words: Mapping[str, int] | None = None

    def taught(self, sources: Mapping[str, Sequence[Source]], min_count: int) -> Reader:
        """Know the words of all training texts, and the names of the classes of all splits.

        Parameters
        ----------
        sources : {"train", "validation", "test"} to n_clients sources
        min_count : int
            How often a word has to occur.
        """
        every = [source for own in sources.values() for source in own if len(source.rows)]
        first = sources["train"][0]
        seen = first.columns((*self.inputs, *self.target), first.read[:1])
        (example,), (target,) = seen[0], seen[len(self.inputs)]
        known = replace(self, labels=self.labels or self._declared(every))
        if are_labels([target], self.loss) and not known.labels:
            tables = (source.columns(self.target, source.read)[0] for source in every)
            known = replace(known, labels=class_names(tables))
        if isinstance(example, str) and len(self.inputs) == 1:
            known = replace(known, words=self._words(sources["train"], min_count))
        return known

    def _declared(self, sources: Sequence[Source]) -> tuple[str, ...]:
        """Names of the classes that the features of Hugging Face's datasets give."""
        found: dict[tuple[str, ...], str] = {}
        for source in sources if takes_classes(self.loss) else ():
            features = getattr(source.dataset, "features", None)
            feature = features.get(self.target[0]) if isinstance(features, Mapping) else None
            found.setdefault(tuple(getattr(feature, "names", ())), source.client)
        if len(found) > 1:
            (one, client), (other, another) = list(found.items())[:2]
            raise InputError(
                f"the classes of client {client!r} are {listed(one, repr)}, but those of "
                f"{another!r} are {listed(other, repr)}: give all datasets one ClassLabel"
            )
        return next(iter(found), ())

    def _words(self, sources: Sequence[Source], min_count: int) -> dict[str, int]:
        texts = [
            [
                tokenize(text, max_tokens=self.max_tokens)
                for text in source.columns(self.inputs, source.read)[0]
            ]
            for source in sources
        ]
        words = vocabulary(texts, min_count)
        return {word: UNKNOWN + 1 + row for row, word in enumerate(words)}

    def load(self, source: Source) -> Split:
        """Read items; of none, the kind of the first one."""
        columns = source.columns((*self.inputs, *self.target), source.read)
        try:
            inputs = self._inputs(columns[: len(self.inputs)])
            split = Split(inputs, self._targets(columns[len(self.inputs) :]), self.loss)
        except InputError as error:
            raise InputError(f"the dataset of client {source.client!r}: {error}") from error
        return split.take(np.arange(len(source.rows)))

    def _inputs(self, columns: list[list[Any]]) -> Any:
        """Columns of numbers side by side, as of a frame; of others one, or each by its name."""
        by_name = isinstance(self.inputs[0], str)
        if by_name and all(_is_number(value) for column in columns for value in column):
            return np.array(columns, dtype=np.float32).T
        if len(columns) == 1:
            return self._converted(columns[0])
        return dict(zip(self.inputs, map(self._converted, columns), strict=True))

    def _converted(self, values: list[Any]) -> Any:
        """What a model reads; of mappings and tuples, each of their parts."""
        first = values[0]
        if isinstance(first, str):
            if self.words is None:
                raise InputError(f"the inputs hold {first!r}: texts stand alone, inputs='COLUMN'")
            texts = [tokenize(text, max_tokens=self.max_tokens) for text in values]
            return encoded(texts, self.words, UNKNOWN, PADDING, self.max_tokens)
        if is_image(first):
            return list(map(pixels, values))
        if isinstance(first, Mapping | tuple):
            places = first if isinstance(first, Mapping) else range(len(first))
            return {at: self._converted([value[at] for value in values]) for at in places}
        return values

    def _targets(self, columns: list[list[Any]]) -> Any:
        """Numbers of the labels, the pixels of masks, or numbers; of several columns in rows."""
        values = columns[0]
        if len(columns) > 1:
            return list(zip(*columns, strict=True))
        if isinstance(values[0], str):
            return numbered(values, self.labels)
        return list(map(np.array, values)) if is_image(values[0]) else values


def _is_number(value: Any) -> bool:
    """Whether a value is one number of Python, numpy or torch."""
    return isinstance(value, Real) or getattr(value, "ndim", None) == 0
