"""A residual network with group normalisation whose channels can be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Self

from torch import Tensor, nn

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Cut
from hasa_opt.models.subnets import check_sizes
from hasa_opt.models.supernet import TaskModel


class ResNet(TaskModel):
    """Image classifier: stages of pre-activation blocks (arXiv:1603.05027), then the classifier.

    The unit that is kept or dropped is a whole normalisation group of ``norm_channels`` channels,
    whose size never changes, so a subnet is exactly the full model without the dropped channels.
    The blocks of a stage add to one stream, which is one width group; the channels inside each
    block are another.

    Parameters
    ----------
    classes : int
        Number of classes.
    channels : sequence of int
        Channels of each stage (width groups ``channels0``, ...; inside the blocks ``inner0_0``,
        ...), multiples of ``norm_channels``. Each stage but the first halves the image.
    blocks : int
        Basic blocks of each stage.
    in_channels : int
        Channels of the images.
    norm_channels : int
        Channels of one normalisation group.
    inner : sequence of sequences of int, optional
        Channels inside each block of each stage; by default those of the stage.

    Raises
    ------
    InputError
        If a size is below 1 or the stages do not divide into normalisation groups.
    """

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (16, 32),
        blocks: int = 2,
        in_channels: int = 1,
        norm_channels: int = 2,
        inner: Sequence[Sequence[int]] | None = None,
    ) -> None:
        check_sizes(norm_channels=norm_channels, in_channels=in_channels, blocks=blocks)
        inner = [[count] * blocks for count in channels] if inner is None else inner
        if not channels or any(n % norm_channels for n in (*channels, *chain(*inner))):
            raise InputError(
                f"channels = {tuple(channels)} do not divide into groups of norm_channels = "
                f"{norm_channels}: use multiples of it, at least one"
            )
        groups: dict[str, int] = {}
        for stage, count in enumerate(channels):
            groups[f"channels{stage}"] = count // norm_channels
            for block, inside in enumerate(inner[stage]):
                groups[f"inner{stage}_{block}"] = inside // norm_channels
        super().__init__(groups, classes)
        self.blocks = blocks
        self.in_channels = in_channels
        self.norm_channels = norm_channels
        self.stem = nn.Conv2d(in_channels, channels[0], kernel_size=3, padding=1)
        below = channels[0]
        self.stages = nn.ModuleList()
        for stage, count in enumerate(channels):
            sizes = [(below if block == 0 else count, n) for block, n in enumerate(inner[stage])]
            strides = [2 if stage and not block else 1 for block in range(blocks)]
            self.stages.append(
                nn.Sequential(
                    *(
                        _Block(entry, inside, count, stride, norm_channels)
                        for (entry, inside), stride in zip(sizes, strides, strict=True)
                    )
                )
            )
            below = count
        self.classifier = nn.Linear(below, classes)

    @classmethod
    def for_data(cls, inputs: Tensor, n_outputs: int, **options: Any) -> Self:
        """Build a classifier for images of shape (n, channels, height, width)."""
        if inputs.dim() != 4:
            raise InputError(
                "a ResNet reads images of shape (n, channels, height, width), not "
                f"{tuple(inputs.shape)}: use a language model for tokens or mlp for features"
            )
        return cls(n_outputs, **{"in_channels": inputs.shape[1]} | options)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Parameters
        ----------
        images : (batch, in_channels, height, width) float Tensor

        Returns
        -------
        (batch, classes) Tensor
            Logits.
        """
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return self.classifier(features.mean((2, 3)))  # type: ignore[no-any-return]

    def cuts(self) -> dict[str, tuple[Cut | None, ...]]:
        """Cut each stream where its blocks read and write it, and the inside of each block."""
        span = self.norm_channels
        below = Cut("channels0", span=span)
        cuts: dict[str, tuple[Cut | None, ...]] = {
            "stem.weight": (below, None, None, None),
            "stem.bias": (below,),
        }
        for stage, blocks in enumerate(self.stages):
            stream = Cut(f"channels{stage}", span=span)
            for block, part in enumerate(blocks.children()):
                path = f"stages.{stage}.{block}"
                inside = Cut(f"inner{stage}_{block}", span=span)
                cuts |= _norm_cuts(f"{path}.norm1", below) | _norm_cuts(f"{path}.norm2", inside)
                cuts[f"{path}.conv1.weight"] = (inside, below, None, None)
                cuts[f"{path}.conv2.weight"] = (stream, inside, None, None)
                if isinstance(part.shortcut, nn.Conv2d):
                    cuts[f"{path}.shortcut.weight"] = (stream, below, None, None)
                below = stream
        return cuts | {"classifier.weight": (None, below), "classifier.bias": (None,)}

    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same network with other numbers of normalisation groups."""
        stages, blocks = range(len(self.stages)), self.blocks
        span = self.norm_channels
        return type(self)(
            self.n_outputs,
            [sizes[f"channels{stage}"] * span for stage in stages],
            blocks,
            self.in_channels,
            span,
            [[sizes[f"inner{stage}_{n}"] * span for n in range(blocks)] for stage in stages],
        )


def _norm_cuts(path: str, channels: Cut) -> dict[str, tuple[Cut | None, ...]]:
    return {f"{path}.weight": (channels,), f"{path}.bias": (channels,)}


class _Block(nn.Module):
    """Two convolutions, each normalised first, added to the stream (arXiv:1603.05027)."""

    def __init__(
        self, below: int, inside: int, above: int, stride: int, norm_channels: int
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(below // norm_channels, below)
        self.conv1 = nn.Conv2d(below, inside, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(inside // norm_channels, inside)
        self.conv2 = nn.Conv2d(inside, above, 3, padding=1, bias=False)
        # Every stage but the first enters with a projection, whatever is kept of the two streams.
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Conv2d(below, above, 1, stride, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.conv2(self.norm2(self.conv1(self.norm1(features).relu())).relu())
        return inner + self.shortcut(features)  # type: ignore[no-any-return]
