"""The embedded image task whose clients differ in need: easy images here, hard ones there."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.streams import generator
from hasa_opt.tasks.images import CLASSES, Images, drawn, photographs, scanned
from hasa_opt.tasks.task import Task

__all__ = ["domains"]

_FEW = 5  # classes of the easy clients: half of all
_TRAIN = {"scans": (220, 160, 100, 80), "photographs": (440, 320, 200, 160)}
_HELD_BACK = {"scans": (20, 65), "photographs": (40, 150)}  # validation and test


def domains(*, seed: int = 0) -> Task:
    """Digit recognition by eight clients: four hold easy images, four hard ones.

    ``scans`` hold handwritten digits of scikit-learn, as they are, of five classes (0 to 4): 220 to
    80 training images, and of each 20 for validation and 65 for the test, which uses up the scans.
    ``photographs`` hold digits of all ten classes on patches of the photographs that scikit-learn
    and matplotlib ship (china, flower, grace_hopper): 440 to 160 training images, 40 and 150.
    The digits are rendered from 20 fonts, each with its own size, position and angle of up to 10
    degrees, and blended with the patch by the absolute difference, as in MNIST-M (Ganin et al.,
    arXiv:1505.07818). Sizes overlap between the domains. One label set serves all.

    Nothing leaks between splits: every scan is used once; every print is drawn anew; and each
    photograph is cut into tiles of 32 x 32 pixels that belong to one split alone, at all clients.
    Fonts are shared by the splits.

    The counts are label counts. Clients with few classes are the furthest from the pooled labels,
    so they score highest; they are also the ones that need the least width.

    Parameters
    ----------
    seed : int
        Seed of all draws.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.
    """
    scans, photos = _scans(seed), photographs(seed)
    sizes = {
        f"{domain} {number}": (size, *_HELD_BACK[domain])
        for domain, own in _TRAIN.items()
        for number, size in enumerate(own, start=1)
    }

    def draw(
        client: str, part: int, n_images: int, rng: np.random.Generator
    ) -> tuple[Images, IntArray]:
        if client.startswith("scans"):
            return scans(n_images)
        labels: IntArray = rng.permutation(np.arange(n_images) % CLASSES)
        return photos(part, labels, rng), labels

    return drawn("domains", sizes, draw, seed)


def _scans(seed: int) -> Callable[[int], tuple[Images, IntArray]]:
    """Deal out the scans of the first classes, each once."""
    images, labels = scanned()
    deck = iter(generator(seed, 0).permutation(np.flatnonzero(labels < _FEW)))

    def draw(n_images: int) -> tuple[Images, IntArray]:
        rows = list(islice(deck, n_images))
        return images[rows], labels[rows]

    return draw
