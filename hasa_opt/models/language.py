"""Recurrent language models whose embedding and hidden units can be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Cut
from hasa_opt.models.supernet import TaskModel


class LanguageModel(TaskModel):
    """Next-token prediction over an uncut vocabulary; token 0 is padding.

    The first argument of a subclass is the size of its vocabulary.
    """

    @classmethod
    def for_data(cls, inputs: Tensor, n_outputs: int, **options: Any) -> Self:
        """Build a language model for token sequences of shape (n, time), int64."""
        if inputs.dim() != 2 or inputs.is_floating_point():
            raise InputError(
                f"a language model reads token ids of shape (n, time), not {inputs.dtype} of shape "
                f"{tuple(inputs.shape)}: use the model cnn or mlp"
            )
        return cls(n_outputs, **options)  # type: ignore[arg-type]


def per_layer(name: str, size: int | Sequence[int], layers: int) -> list[int]:
    """Read one size for each layer.

    Raises
    ------
    InputError
        If the sizes do not describe that many layers.
    """
    sizes = [size] * layers if isinstance(size, int) else list(size)
    if layers < 1 or len(sizes) != layers:
        raise InputError(f"{name} = {size} does not describe {layers} layers: give one each")
    return sizes


def check_dropout(dropout: float) -> None:
    """Refuse a dropout probability outside [0, 1).

    Raises
    ------
    InputError
        Naming it.
    """
    if not 0 <= dropout < 1:
        raise InputError(f"dropout = {dropout} is outside [0, 1): give a probability")


class RecurrentLanguageModel(LanguageModel):
    """Embedding, recurrent layers, linear decoder.

    Parameters
    ----------
    vocabulary : int
        Number of tokens, padding included; token 0 is padding.
    embedding : int
        Dimensions of the embedding (width group ``embedding``).
    hidden : int or sequence of int
        Hidden units of each layer, or one number for each of the ``layers`` layers (width groups
        ``hidden0``, ``hidden1``, ...).
    layers : int
        Number of recurrent layers.
    dropout : float
        Dropout probability after the embedding and after each layer.

    Raises
    ------
    InputError
        If a size is below 1, the dropout is outside [0, 1), or ``hidden`` and ``layers`` disagree.
    """

    cell: ClassVar[type[nn.LSTM] | type[nn.GRU]]
    gates: ClassVar[int]
    stack: ClassVar[str]

    def __init__(
        self,
        vocabulary: int,
        embedding: int = 64,
        hidden: int | Sequence[int] = 64,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        hidden_sizes = per_layer("hidden", hidden, layers)
        check_dropout(dropout)
        groups = {f"hidden{layer}": size for layer, size in enumerate(hidden_sizes)}
        super().__init__({"embedding": embedding, **groups}, vocabulary)
        inputs = [embedding, *hidden_sizes]
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        cells = [
            self.cell(inputs[layer], size, batch_first=True)
            for layer, size in enumerate(hidden_sizes)
        ]
        self.add_module(self.stack, nn.ModuleList(cells))
        self.decoder = nn.Linear(inputs[-1], vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict the next token at each position.

        Parameters
        ----------
        tokens : (batch, time) int64 Tensor

        Returns
        -------
        (batch, time, vocabulary) Tensor
            Logits.
        """
        states = self.dropout(self.embedding(tokens))
        for cell in self.get_submodule(self.stack).children():
            states = self.dropout(cell(states)[0])
        return self.decoder(states)  # type: ignore[no-any-return]

    def cuts(self) -> dict[str, tuple[Cut | None, ...]]:
        """Cut the embedding once per dimension and each recurrent layer once per gate."""
        cuts: dict[str, tuple[Cut | None, ...]] = {"embedding.weight": (None, Cut("embedding"))}
        below = "embedding"
        for layer in range(len(self.sizes) - 1):
            group = f"hidden{layer}"
            gates = Cut(group, blocks=self.gates)
            cuts |= {
                f"{self.stack}.{layer}.weight_ih_l0": (gates, Cut(below)),
                f"{self.stack}.{layer}.weight_hh_l0": (gates, Cut(group)),
                f"{self.stack}.{layer}.bias_ih_l0": (gates,),
                f"{self.stack}.{layer}.bias_hh_l0": (gates,),
            }
            below = group
        return cuts | {"decoder.weight": (None, Cut(below)), "decoder.bias": (None,)}

    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same language model with other embedding and hidden sizes."""
        layers = len(self.sizes) - 1
        hidden = [sizes[f"hidden{layer}"] for layer in range(layers)]
        return type(self)(self.n_outputs, sizes["embedding"], hidden, layers, self.dropout.p)


class LSTMLanguageModel(RecurrentLanguageModel):
    """Next-token prediction: embedding, LSTM layers, linear decoder over an uncut vocabulary.

    Parameters are those of :class:`hasa_opt.models.language.RecurrentLanguageModel`.
    """

    cell = nn.LSTM
    gates = 4
    stack = "lstms"
    lstms: nn.ModuleList


class GRULanguageModel(RecurrentLanguageModel):
    """Next-token prediction: embedding, GRU layers, linear decoder over an uncut vocabulary.

    Parameters are those of :class:`hasa_opt.models.language.RecurrentLanguageModel`.
    """

    cell = nn.GRU
    gates = 3
    stack = "grus"
    grus: nn.ModuleList
