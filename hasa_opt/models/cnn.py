"""A small convolutional classifier whose channels can be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor, nn

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Cut
from hasa_opt.models.subnets import check_sizes
from hasa_opt.models.supernet import TaskModel


class CNN(TaskModel):
    """Image classifier: per stage 3x3 convolution, group normalisation, ReLU and 2x2 max pooling.

    The unit that is kept or dropped is a whole normalisation group of ``norm_channels`` channels,
    and its size never changes. So the statistics of the kept groups are those of the full model,
    and a subnet is exactly the full model without the dropped channels at every width.

    Parameters
    ----------
    classes : int
        Number of classes.
    channels : sequence of int
        Channels of each stage (width groups ``channels0``, ``channels1``, ...), multiples of
        ``norm_channels``.
    in_channels : int
        Channels of the images.
    image_size : int
        Height and width of the images, in pixels; each stage halves it.
    norm_channels : int
        Channels of one normalisation group.

    Raises
    ------
    InputError
        If a size is below 1, the stages do not divide into normalisation groups, or the image is
        too small for the number of stages.
    """

    def __init__(
        self,
        classes: int,
        channels: Sequence[int] = (16, 32),
        in_channels: int = 1,
        image_size: int = 16,
        norm_channels: int = 2,
    ) -> None:
        if norm_channels < 1 or any(count % norm_channels for count in channels):
            raise InputError(
                f"channels = {tuple(channels)} do not divide into groups of norm_channels = "
                f"{norm_channels}: use multiples of it"
            )
        side = image_size >> len(channels)
        if not channels or side < 1:
            raise InputError(
                f"{len(channels)} stages do not fit images of {image_size} pixels: each stage "
                "halves the image, use at least one stage and at least one pixel after the last"
            )
        groups = {f"channels{stage}": n // norm_channels for stage, n in enumerate(channels)}
        check_sizes(in_channels=in_channels)
        super().__init__(groups, classes)
        self.in_channels = in_channels
        self.image_size = image_size
        self.norm_channels = norm_channels
        self.positions = side * side
        inputs = [in_channels, *channels]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs[stage], count, kernel_size=3, padding=1),
                nn.GroupNorm(count // norm_channels, count),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            for stage, count in enumerate(channels)
        )
        self.classifier = nn.Linear(inputs[-1] * self.positions, classes)

    @classmethod
    def for_data(cls, inputs: Tensor, n_outputs: int, **options: Any) -> Self:
        """Build a classifier for square images of shape (n, channels, size, size)."""
        if inputs.dim() != 4 or inputs.shape[2] != inputs.shape[3]:
            raise InputError(
                "a CNN reads square images of shape (n, channels, size, size), not "
                f"{tuple(inputs.shape)}: use the model lstm for tokens or mlp for features"
            )
        sizes = {"in_channels": inputs.shape[1], "image_size": inputs.shape[2]}
        return cls(n_outputs, **sizes | options)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Parameters
        ----------
        images : (batch, in_channels, image_size, image_size) float Tensor

        Returns
        -------
        (batch, classes) Tensor
            Logits.
        """
        features = images
        for stage in self.stages:
            features = stage(features)
        return self.classifier(features.flatten(1))  # type: ignore[no-any-return]

    def cuts(self) -> dict[str, tuple[Cut | None, ...]]:
        """Cut each stage by whole normalisation groups; the classifier reads flattened channels."""
        cuts: dict[str, tuple[Cut | None, ...]] = {}
        below: Cut | None = None
        for stage in range(len(self.stages)):
            channels = Cut(f"channels{stage}", span=self.norm_channels)
            cuts |= {
                f"stages.{stage}.0.weight": (channels, below, None, None),
                f"stages.{stage}.0.bias": (channels,),
                f"stages.{stage}.1.weight": (channels,),
                f"stages.{stage}.1.bias": (channels,),
            }
            below = channels
        flattened = Cut(f"channels{stage}", span=self.norm_channels * self.positions)
        return cuts | {"classifier.weight": (None, flattened), "classifier.bias": (None,)}

    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same classifier with other numbers of normalisation groups."""
        return type(self)(
            self.n_outputs,
            [sizes[group] * self.norm_channels for group in self.sizes],
            self.in_channels,
            self.image_size,
            self.norm_channels,
        )
