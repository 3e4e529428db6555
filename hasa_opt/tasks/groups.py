"""Image tasks whose clients form groups: equal labels everywhere, and inputs that differ.

Counts of labels cannot tell the groups apart. Each task has a twin in which nothing differs: equal
clients, sizes and labels, but every client holds all kinds of images in equal parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import ascii_uppercase

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.streams import generator
from hasa_opt.tasks.images import (
    CLASSES,
    SIDE,
    Draw,
    Images,
    drawn,
    photographs,
    printed,
    scanned,
)
from hasa_opt.tasks.task import Task

__all__ = ["fonts", "forty_clients", "rotated", "unequal"]

# Sizes are multiples of the classes times the kinds, so that equal parts are whole numbers.
_HELD_BACK = (40, 160)  # validation and test

_Kinds = Callable[[int, IntArray, IntArray, np.random.Generator], Images]
"""From a part, the label and the kind of each image, and a generator to images."""


def rotated(*, seed: int = 0, differ: bool = True) -> Task:
    """Digits on photographs, which half of the clients see turned by 180 degrees.

    Clients ``A 1`` to ``A 4`` hold the images upright, ``B 1`` to ``B 4`` upside down, so that the
    6 of one group looks like the 9 of the other. The images are made as in
    :func:`hasa_opt.tasks.domains.domains`. In each group clients have 440, 320, 200 and 160
    training images, 40 for validation and 160 for the test, as many of each digit.

    Parameters
    ----------
    seed : int
        Seed of all draws.
    differ : bool
        False: the twin. The images are the same, but every client sees half of each of its digits
        turned.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.
    """
    return _by_kind("rotated", [(440, 320, 200, 160)] * 2, _turned(seed), differ, seed)


def fonts(*, seed: int = 0, differ: bool = True) -> Task:
    """Digits, which half of the clients hold handwritten and half of them printed.

    Clients ``A 1`` to ``A 4`` hold scanned digits of scikit-learn, each used once, ``B 1`` to
    ``B 4`` digits in the fonts that matplotlib ships, each with its own size, position and angle of
    up to 10 degrees. In each group clients have 400, 300, 200 and 160 training images, 40 for
    validation and 120 for the test, as many of each digit.

    Parameters
    ----------
    seed : int
        Seed of all draws.
    differ : bool
        False: the twin. Every client holds half of each of its digits handwritten.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.
    """
    kinds = _sources(_scans(seed), _prints)
    sizes = [(400, 300, 200, 160)] * 2
    return _by_kind("fonts", sizes, kinds, differ, seed, held_back=(40, 120))


def unequal(*, seed: int = 0, differ: bool = True) -> Task:
    """The images of :func:`rotated`, at clients of very unequal sizes in unequal groups.

    Clients ``A 1`` to ``A 6`` hold 640 to 20 training images upright, ``B 1`` and ``B 2`` 400 and
    60 upside down; all have 40 for validation and 160 for the test.

    Parameters
    ----------
    seed : int
    differ : bool
        As in :func:`rotated`.
    """
    sizes = [(640, 320, 160, 80, 40, 20), (400, 60)]
    return _by_kind("unequal", sizes, _turned(seed), differ, seed)


def forty_clients(*, seed: int = 0, differ: bool = True) -> Task:
    """Digits of four kinds, each at ten small clients.

    Clients ``A`` hold scanned digits, ``B`` printed ones, ``C`` printed ones dark on bright and
    ``D`` printed ones on photographs. In each group they have 120 to 40 training images, and 40
    for validation and test each, as many of each digit.

    Parameters
    ----------
    seed : int
        Seed of all draws.
    differ : bool
        False: the twin. Every client holds a quarter of each of its digits of each kind.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.
    """
    kinds = _sources(_scans(seed), _prints, _negatives, photographs(seed))
    sizes = [(120,) * 2 + (80,) * 4 + (40,) * 4] * 4
    return _by_kind("forty_clients", sizes, kinds, differ, seed, held_back=(40, 40))


def _by_kind(
    name: str,
    sizes: Sequence[Sequence[int]],
    images: _Kinds,
    differ: bool,
    seed: int,
    held_back: tuple[int, int] = _HELD_BACK,
) -> Task:
    """Give each group images of its own kind, or each client all kinds in equal parts.

    Parameters
    ----------
    name : str
    sizes : n_groups times the training images of each client
    images : function
    differ : bool
    seed : int
    held_back : pair of int
    """
    kind_of = {
        f"{ascii_uppercase[kind]} {number}": kind
        for kind, group in enumerate(sizes)
        for number in range(1, len(group) + 1)
    }
    training = [size for group in sizes for size in group]

    def draw(
        client: str, part: int, n_images: int, rng: np.random.Generator
    ) -> tuple[Images, IntArray]:
        order = rng.permutation(n_images)
        labels: IntArray = order % CLASSES
        kinds = np.full(n_images, kind_of[client]) if differ else order // CLASSES % len(sizes)
        return images(part, labels, kinds, rng), labels

    parts = {client: (size, *held_back) for client, size in zip(kind_of, training, strict=True)}
    return drawn(name if differ else f"{name}_twin", parts, draw, seed)


def _turned(seed: int) -> _Kinds:
    """Photographs, of which kind 1 is upside down."""
    draw = photographs(seed)

    def images(part: int, labels: IntArray, kinds: IntArray, rng: np.random.Generator) -> Images:
        upright = draw(part, labels, rng)
        return np.where(kinds[:, None, None] == 1, upright[:, ::-1, ::-1], upright)

    return images


def _sources(*draws: Draw) -> _Kinds:
    """Images of each kind from a source of its own."""

    def images(part: int, labels: IntArray, kinds: IntArray, rng: np.random.Generator) -> Images:
        made = np.empty((len(labels), SIDE, SIDE), dtype=np.float32)
        for kind in np.unique(kinds):
            made[kinds == kind] = draws[kind](part, labels[kinds == kind], rng)
        return made

    return images


def _scans(seed: int) -> Draw:
    """Scanned digits, each dealt out once."""
    images, labels = scanned()
    order = generator(seed, 0).permutation(len(labels))
    decks = [iter(order[labels[order] == digit]) for digit in range(CLASSES)]
    return lambda part, wanted, rng: images[[next(decks[digit]) for digit in wanted]]


def _prints(part: int, labels: IntArray, rng: np.random.Generator) -> Images:
    return np.stack([printed(str(digit), rng) for digit in labels])


def _negatives(part: int, labels: IntArray, rng: np.random.Generator) -> Images:
    return 1 - _prints(part, labels, rng)
