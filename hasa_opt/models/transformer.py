"""A causal transformer language model whose embedding, heads and hidden units can be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from hasa_opt.errors import InputError
from hasa_opt.models.cuts import Cut
from hasa_opt.models.language import LanguageModel, check_dropout, per_layer
from hasa_opt.models.subnets import check_sizes


class TransformerLanguageModel(LanguageModel):
    """Pre-norm decoder: learned positions, causal attention, GELU, linear decoder.

    Heads are kept or dropped whole, their size never changes. A layer normalisation of a subnet
    works on the kept embedding dimensions, so its statistics are theirs alone.

    Parameters
    ----------
    vocabulary : int
        Number of tokens, padding included; token 0 is padding.
    embedding : int
        Dimensions of the embedding and of the residual stream (width group ``embedding``).
    heads : int or sequence of int
        Attention heads of each layer, or one number for all (width groups ``heads0``, ...).
    hidden : int or sequence of int
        Hidden units of each layer's perceptron, or one number for all (width groups ``hidden0``,
        ...).
    layers : int
        Number of layers.
    context : int
        The longest sequence, in tokens.
    dropout : float
        Dropout probability after the embedding, the attention and the perceptron.
    head_size : int, optional
        Dimensions of a head; by default ``embedding / heads``.

    Raises
    ------
    InputError
        If a size is below 1, the dropout is outside [0, 1), the heads do not divide the embedding,
        or ``heads`` or ``hidden`` disagree with ``layers``.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int = 64,
        heads: int | Sequence[int] = 4,
        hidden: int | Sequence[int] = 128,
        layers: int = 2,
        context: int = 128,
        dropout: float = 0.0,
        head_size: int | None = None,
    ) -> None:
        heads, hidden = per_layer("heads", heads, layers), per_layer("hidden", hidden, layers)
        check_dropout(dropout)
        groups = {"embedding": embedding}
        for layer in range(layers):
            groups |= {f"heads{layer}": heads[layer], f"hidden{layer}": hidden[layer]}
        super().__init__(groups, vocabulary)
        if head_size is None and any(embedding % n for n in heads):
            raise InputError(
                f"embedding = {embedding} does not divide into {heads} heads: use a multiple, or "
                "give head_size"
            )
        self.head_size = embedding // heads[0] if head_size is None else head_size
        check_sizes(context=context, head_size=self.head_size)
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.positions = nn.Embedding(context, embedding)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            _Layer(embedding, *sizes, self.head_size, dropout)
            for sizes in zip(heads, hidden, strict=True)
        )
        self.norm = nn.LayerNorm(embedding)
        self.decoder = nn.Linear(embedding, vocabulary)

    @classmethod
    def for_data(cls, inputs: Tensor, n_outputs: int, **options: Any) -> Self:
        """Build a language model for token sequences of shape (n, time), int64."""
        context = {"context": max(128, inputs.shape[-1])}
        return super().for_data(inputs, n_outputs, **context | options)

    def forward(self, tokens: Tensor) -> Tensor:
        """Predict the next token at each position.

        Parameters
        ----------
        tokens : (batch, time) int64 Tensor

        Returns
        -------
        (batch, time, vocabulary) Tensor
            Logits.

        Raises
        ------
        InputError
            If the sequences are longer than the context.
        """
        time = tokens.shape[1]
        if time > self.positions.num_embeddings:
            raise InputError(
                f"sequences of {time} tokens exceed context = {self.positions.num_embeddings}: "
                "build the model with a longer context"
            )
        positions = torch.arange(time, device=tokens.device)
        states = self.dropout(self.embedding(tokens) + self.positions(positions))
        for layer in self.layers:
            states = layer(states)
        return self.decoder(self.norm(states))  # type: ignore[no-any-return]

    def cuts(self) -> dict[str, tuple[Cut | None, ...]]:
        """Cut the residual stream everywhere, queries, keys and values by whole heads."""
        stream = Cut("embedding")
        cuts: dict[str, tuple[Cut | None, ...]] = {
            "embedding.weight": (None, stream),
            "positions.weight": (None, stream),
        }
        for layer in range(len(self.layers)):
            stacked = Cut(f"heads{layer}", blocks=3, span=self.head_size)
            heads, hidden = Cut(f"heads{layer}", span=self.head_size), Cut(f"hidden{layer}")
            for name, above, below in (
                ("attend", stacked, stream),
                ("merge", stream, heads),
                ("expand", hidden, stream),
                ("contract", stream, hidden),
            ):
                cuts[f"layers.{layer}.{name}.weight"] = (above, below)
                cuts[f"layers.{layer}.{name}.bias"] = (above,)
            for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
                cuts[f"layers.{layer}.{name}"] = (stream,)
        cuts |= {"norm.weight": (stream,), "norm.bias": (stream,)}
        return cuts | {"decoder.weight": (None, stream), "decoder.bias": (None,)}

    def build(self, sizes: Mapping[str, int]) -> Self:
        """Build the same language model with other sizes; heads keep theirs."""
        layers = len(self.layers)
        return type(self)(
            self.n_outputs,
            sizes["embedding"],
            [sizes[f"heads{layer}"] for layer in range(layers)],
            [sizes[f"hidden{layer}"] for layer in range(layers)],
            layers,
            self.positions.num_embeddings,
            self.dropout.p,
            self.head_size,
        )


class _Layer(nn.Module):
    """Causal attention and a perceptron, each normalised first and added to the stream."""

    def __init__(
        self, embedding: int, heads: int, hidden: int, head_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.head_size = head_size
        self.norm1 = nn.LayerNorm(embedding)
        self.attend = nn.Linear(embedding, 3 * heads * head_size)
        self.merge = nn.Linear(heads * head_size, embedding)
        self.norm2 = nn.LayerNorm(embedding)
        self.expand = nn.Linear(embedding, hidden)
        self.contract = nn.Linear(hidden, embedding)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        stacked = self.attend(self.norm1(states)).unflatten(-1, (3, -1, self.head_size))
        query, key, value = stacked.transpose(1, 3).unbind(2)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.dropout(self.merge(attended.transpose(1, 2).flatten(2)))
        hidden = functional.gelu(self.expand(self.norm2(states)))
        return states + self.dropout(self.contract(hidden))  # type: ignore[no-any-return]
