"""What a line of the list of networks says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor, nn

VOCABULARY = 23

Example = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


@dataclass(frozen=True)
class Network:
    """A network of the list.

    ``source`` is the library that it comes from, or "written" where users write it themselves;
    ``asks`` is what makes it hard to cut, in the words of the documentation.
    """

    name: str
    family: str
    source: str
    build: Callable[[], nn.Module] = field(repr=False)
    example: Callable[[], Example] = field(repr=False)
    asks: str = ""
    keep: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        return self.source == "written" or find_spec(self.source) is not None

    def make(self) -> tuple[nn.Module, Example]:
        """Build it with weights of which none is zero or one by default, and an example."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            module = self.build()
            with torch.no_grad():
                for name, tensor in module.named_parameters():
                    disturb(name, tensor)
            return module.eval(), self.example()


def disturb(name: str, tensor: Tensor) -> None:
    """Add noise of a tenth of a weight's own size, or of a tenth."""
    size = float(tensor.detach().float().std(correction=0)) if tensor.numel() > 1 else 0.0
    tensor.add_(torch.randn_like(tensor), alpha=0.1 * size or 0.1)


def numbers(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def tokens(n: int = 3, time: int = 6, vocabulary: int = VOCABULARY) -> Callable[[], Tensor]:
    return lambda: torch.randint(
        2, vocabulary, (n, time), generator=torch.Generator().manual_seed(1)
    )
