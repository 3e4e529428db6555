"""Networks for texts, series and tables, as users write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .listed import VOCABULARY, Example, Network, numbers, tokens


class PlainRNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.rnn, self.head = nn.RNN(8, 12, batch_first=True), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(x))[0][:, -1])


class CharacterLSTM(nn.Module):
    """Of LEAF's Shakespeare."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.lstm = nn.LSTM(8, 12, num_layers=2, batch_first=True)
        self.fc = nn.Linear(12, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(self.embedding(x))[0])


class PackedLSTM(nn.Module):
    """Reads each text to its own end."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8, padding_idx=0)
        self.lstm, self.head = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 4)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.head(states.sum(1) / lengths[:, None])


class Cells(nn.Module):
    """Calls a cell for each step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(5, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.new_zeros(x.shape[0], 12)
        memory = x.new_zeros(x.shape[0], 12)
        for step in range(x.shape[1]):
            hidden, memory = self.cell(x[:, step], (hidden, memory))
        return self.head(hidden)


class ProjectedLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.lstm = nn.LSTM(8, 12, batch_first=True, proj_size=6)
        self.head = nn.Linear(6, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(x))[0])


class AttentiveGRU(nn.Module):
    """A mean of the states of both directions, weighted by a score of each."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.gru = nn.GRU(8, 10, batch_first=True, bidirectional=True)
        self.score, self.head = nn.Linear(20, 1), nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        states = self.gru(self.embedding(x))[0]
        weights = torch.softmax(self.score(torch.tanh(states)), dim=1)
        return self.head((weights * states).sum(dim=1))


class TextCNN(nn.Module):
    """Of Kim: filters of three sizes, the maximum of each."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.convs = nn.ModuleList([nn.Conv1d(8, 6, size) for size in (2, 3, 4)])
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x).permute(0, 2, 1)
        pooled = [
            functional.max_pool1d(y, y.shape[2]).squeeze(2)
            for y in (functional.relu(conv(x)) for conv in self.convs)
        ]
        return self.fc(self.dropout(torch.cat(pooled, dim=1)))


class Bag(nn.Module):
    """fastText: the mean of the words' vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(VOCABULARY, 12, mode="mean")
        self.hidden, self.fc = nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.relu(self.hidden(self.embedding(x))))


class NeuMF(nn.Module):
    """Scores an item for a user: a product of vectors beside a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.user_mf, self.item_mf = nn.Embedding(VOCABULARY, 6), nn.Embedding(VOCABULARY, 6)
        self.user_mlp, self.item_mlp = nn.Embedding(VOCABULARY, 8), nn.Embedding(VOCABULARY, 8)
        self.mlp = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 6), nn.ReLU())
        self.head = nn.Linear(12, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        product = self.user_mf(user) * self.item_mf(item)
        deep = self.mlp(torch.cat([self.user_mlp(user), self.item_mlp(item)], dim=-1))
        return torch.sigmoid(self.head(torch.cat([product, deep], dim=-1))).squeeze(-1)


class TemporalBlock(nn.Module):
    def __init__(self, below: int, above: int, dilation: int) -> None:
        super().__init__()
        norm = torch.nn.utils.parametrizations.weight_norm
        self.padding = 2 * dilation
        self.conv1 = norm(nn.Conv1d(below, above, 3, padding=self.padding, dilation=dilation))
        self.conv2 = norm(nn.Conv1d(above, above, 3, padding=self.padding, dilation=dilation))
        self.shortcut = nn.Conv1d(below, above, 1) if below != above else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.conv1(x)[:, :, : -self.padding].contiguous())
        out = functional.relu(self.conv2(out)[:, :, : -self.padding].contiguous())
        return functional.relu(out + self.shortcut(x))


class TCN(nn.Module):
    """Of Bai: causal convolutions with normalised weights."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(TemporalBlock(4, 8, 1), TemporalBlock(8, 12, 2))
        self.hidden, self.head = nn.Linear(12, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        states = self.blocks(x.transpose(1, 2))[:, :, -1]
        return self.head(functional.relu(self.hidden(states)))


class CausalAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.n_head, self.n_embd = heads, dim
        self.register_buffer("bias", torch.tril(torch.ones(16, 16)).view(1, 1, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / k.size(-1) ** 0.5)
        att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
        y = functional.softmax(att, dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class NanoGPT(nn.Module):
    """As in nanoGPT, with its attention written out."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, 16), nn.Embedding(16, 16)
        self.ln_1 = nn.ModuleList([nn.LayerNorm(16) for _ in range(2)])
        self.attn = nn.ModuleList([CausalAttention(16, 4) for _ in range(2)])
        self.ln_2 = nn.ModuleList([nn.LayerNorm(16) for _ in range(2)])
        self.mlp = nn.ModuleList(
            [nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(2)]
        )
        self.ln_f, self.lm_head = nn.LayerNorm(16), nn.Linear(16, VOCABULARY, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx: Tensor) -> Tensor:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for layer in range(2):
            x = x + self.attn[layer](self.ln_1[layer](x))
            x = x + self.mlp[layer](self.ln_2[layer](x))
        return self.lm_head(self.ln_f(x))


class RMSNorm(nn.Module):
    """As in the reference code of Llama."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

    def _norm(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self._norm(x.float()).type_as(x) * self.weight


class LlamaByHand(nn.Module):
    """llama2.c: rotary by pairs from tables, keys repeated for the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(VOCABULARY, 16)
        self.wq, self.wo = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
        self.wk, self.wv = nn.Linear(16, 8, bias=False), nn.Linear(16, 8, bias=False)
        self.w1, self.w3 = nn.Linear(16, 24, bias=False), nn.Linear(16, 24, bias=False)
        self.w2, self.output = nn.Linear(24, 16, bias=False), nn.Linear(16, VOCABULARY, bias=False)
        self.attention_norm, self.ffn_norm, self.norm = RMSNorm(16), RMSNorm(16), RMSNorm(16)
        angles = torch.outer(torch.arange(16.0), 0.1 ** torch.arange(2.0))
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def turn(self, x: Tensor) -> Tensor:
        time = x.shape[1]
        cosines, sines = (t[:time].view(1, time, 1, 2) for t in (self.cosines, self.sines))
        real, imaginary = x.float().reshape(*x.shape[:-1], -1, 2).unbind(-1)
        turned = [real * cosines - imaginary * sines, real * sines + imaginary * cosines]
        return torch.stack(turned, dim=-1).flatten(3).type_as(x)

    @staticmethod
    def repeated(x: Tensor, times: int) -> Tensor:
        n, time, heads, size = x.shape
        x = x[:, :, :, None, :].expand(n, time, heads, times, size)
        return x.reshape(n, time, heads * times, size)

    def forward(self, ids: Tensor) -> Tensor:
        n, time = ids.shape
        x = self.tok_embeddings(ids)
        y = self.attention_norm(x)
        q = self.turn(self.wq(y).view(n, time, 4, 4))
        k = self.repeated(self.turn(self.wk(y).view(n, time, 2, 4)), 2)
        v = self.repeated(self.wv(y).view(n, time, 2, 4), 2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.wo(y.transpose(1, 2).contiguous().view(n, time, -1))
        y = self.ffn_norm(x)
        x = x + self.w2(functional.silu(self.w1(y)) * self.w3(y))
        return self.output(self.norm(x))


class MaskedEncoder(nn.Module):
    """torch's encoder with a mask of the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        states = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        seen = (~padding).unsqueeze(-1).to(states.dtype)
        return self.head((states * seen).sum(1) / seen.sum(1))


LENGTHS = torch.tensor([6, 3, 4])


def with_lengths() -> Example:
    seen = torch.arange(6) < LENGTHS[:, None]
    return {"tokens": tokens()() * seen, "lengths": LENGTHS}


def with_padding() -> Example:
    seen = torch.arange(6) < LENGTHS[:, None]
    return {"tokens": tokens()() * seen, "padding": ~seen}


def pairs() -> Example:
    return {"user": tokens(1, 5)()[0], "item": tokens(1, 5)()[0].flip(0)}


NETWORKS = [
    Network(name, family, "written", build, example, asks)
    for name, family, build, example, asks in (
        ("rnn", "RNN", PlainRNN, tokens(), "nn.RNN"),
        ("character_lstm", "LSTM", CharacterLSTM, tokens(), ""),
        ("packed_lstm", "LSTM", PackedLSTM, with_lengths, "packed sequences"),
        ("lstm_cells", "LSTM", Cells, numbers(3, 4, 5), "LSTMCell"),
        ("projected_lstm", "LSTM", ProjectedLSTM, tokens(), "LSTM with projection"),
        ("attentive_gru", "GRU", AttentiveGRU, tokens(), ""),
        ("text_cnn", "TextCNN", TextCNN, tokens(), ""),
        ("bag", "fastText", Bag, tokens(), "EmbeddingBag"),
        ("neumf", "NeuMF", NeuMF, pairs, "two inputs"),
        ("tcn", "TCN", TCN, numbers(3, 7, 4), "weight norm"),
        ("nano_gpt", "GPT", NanoGPT, tokens(), "attention written out"),
        ("llama_by_hand", "Llama", LlamaByHand, tokens(), "rotary, RMSNorm by hand, shared keys"),
        ("masked_encoder", "Transformer", MaskedEncoder, with_padding, "mask"),
    )
]
