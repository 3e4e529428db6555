"""Image tasks whose clients differ in labels alone: in groups that overlap, or each by chance."""

from __future__ import annotations

import numpy as np

from hasa_opt._utils.checks import IntArray, number
from hasa_opt._utils.streams import client_number, generator
from hasa_opt.errors import InputError
from hasa_opt.tasks.images import CLASSES, Images, drawn, photographs
from hasa_opt.tasks.task import Task

__all__ = ["dirichlet", "overlapping"]

_HELD_BACK = (30, 120)  # validation and test
_GROUPS = {"A": (0, 1, 2, 3, 4, 5), "B": (3, 4, 5, 6, 7, 8), "C": (6, 7, 8, 0, 1, 2)}
_OVERLAPPING = (300, 240, 180, 120)
_SKEWED = (440, 320, 200, 160) * 2


def overlapping(*, seed: int = 0) -> Task:
    """Digits on photographs, at three groups of clients that share digits pairwise.

    Clients ``A`` hold the digits 0 to 5, ``B`` 3 to 8, ``C`` 6 to 8 and 0 to 2: each digit but 9,
    which there is not, belongs to two groups, and any two groups share three. In each group clients
    have 300, 240, 180 and 120 training images, 30 for validation and 120 for the test, as many of
    each of their digits. The images are made as in :func:`hasa_opt.tasks.domains.domains`.

    Parameters
    ----------
    seed : int
        Seed of all draws.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.
    """
    photos = photographs(seed)
    sizes = {
        f"{group} {row}": (size, *_HELD_BACK)
        for group in _GROUPS
        for row, size in enumerate(_OVERLAPPING, start=1)
    }

    def draw(
        client: str, part: int, n_images: int, rng: np.random.Generator
    ) -> tuple[Images, IntArray]:
        digits = np.array(_GROUPS[client[0]])
        labels: IntArray = digits[rng.permutation(n_images) % digits.size]
        return photos(part, labels, rng), labels

    return drawn("overlapping", sizes, draw, seed, classes=CLASSES - 1)


def dirichlet(*, seed: int = 0, concentration: float = 0.3) -> Task:
    """Digits on photographs, of which each client has its own shares, drawn from a Dirichlet.

    The label skew of Hsu, Qi and Brown, arXiv:1909.06335: at a concentration of 0.1 clients
    mostly have one to four digits, at 1 most of all in unequal shares. A client's three splits
    are drawn from the same shares. There are eight clients, two each with 440, 320, 200 and 160
    training images, and 30 for validation and 120 for the test. The images are made as in
    :func:`hasa_opt.tasks.domains.domains`.

    Parameters
    ----------
    seed : int
        Seed of all draws.
    concentration : float
        Above 0; the smaller, the more clients differ.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.

    Raises
    ------
    InputError
        For a concentration that is not above 0.
    """
    if number(concentration, "concentration") <= 0:
        raise InputError(f"concentration is {concentration}: it must be above 0, such as 0.3")
    photos = photographs(seed)
    sizes = {f"client {row}": (size, *_HELD_BACK) for row, size in enumerate(_SKEWED, start=1)}
    weights = np.full(CLASSES, float(concentration))
    shares = {
        client: generator(seed, 0, client_number(client)).dirichlet(weights) for client in sizes
    }

    def draw(
        client: str, part: int, n_images: int, rng: np.random.Generator
    ) -> tuple[Images, IntArray]:
        labels: IntArray = rng.choice(CLASSES, n_images, p=shares[client])
        return photos(part, labels, rng), labels

    return drawn(f"dirichlet_{concentration:g}", sizes, draw, seed)
