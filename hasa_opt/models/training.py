"""How a subnet trains: the scaler of what its cut layers give."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from hasa_opt.models.subnets import Cuttable

__all__ = ["scaled"]

OUTPUT_DIMENSIONS = {
    "linear": 0,
    "conv1d": 0,
    "conv2d": 0,
    "conv3d": 0,
    "embedding": 1,
    "lstm": 0,
    "gru": 0,
}
"""Operations that are scaled -> the dimension of the weight that the result runs along."""


@contextmanager
def scaled(subnet: Cuttable, width: float) -> Iterator[None]:
    """Divide what each cut layer gives by the width while the subnet trains.

    As in inverted dropout, the next layer of a narrow subnet then sees sums of the size that it
    sees in the supernet, so weights of different widths can be averaged (HeteroFL,
    arXiv:2010.01264, section 3). Linear, convolution, embedding and recurrent layers are scaled.
    Nothing is scaled in evaluation mode, nor after the block.

    Parameters
    ----------
    subnet : SupernetModel
        The client's model.
    width : float
        Its width; at 1 nothing is done.
    """
    if width == 1:
        yield
        return
    with _Scaler(subnet, width):
        yield


class _Scaler(TorchFunctionMode):
    """Divides the results of operations whose weight gives them cut units."""

    def __init__(self, subnet: Cuttable, width: float) -> None:
        super().__init__()
        self._subnet, self._width = subnet, width
        cuts = subnet.cuts()
        self._cuts: dict[int, Sequence[object]] = {
            id(p): cuts[name] for name, p in subnet.named_parameters() if p.dim() > 1
        }

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").partition(".")[0]
        if name == "_weight_norm" and id(args[0]) in self._cuts:
            self._cuts[id(output)] = self._cuts[id(args[0])]
            weakref.finalize(output, self._cuts.pop, id(output), None)
        dimension = OUTPUT_DIMENSIONS.get(name)
        if dimension is None or not self._subnet.training:
            return output
        read = [self._cuts.get(id(leaf)) for leaf in tree_leaves((args, kwargs))]
        weight = next((cuts for cuts in read if cuts is not None), None)
        if weight is None or weight[dimension] is None:
            return output
        if isinstance(output, Tensor):
            return output / self._width
        return (output[0] / self._width, *output[1:])  # The states of a recurrent layer stay.
