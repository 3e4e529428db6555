"""A zoo of networks as users write them, each with a hand-written table of what a subnet keeps.

A table says for each tensor, by a regular expression of its name, what its dimensions are made of:
``group`` for a unit per entry, ``3*group*4`` for three copies of four entries per unit, ``a+b`` for
one after another, ``.`` for a dimension that is never cut. Tensors that no expression matches are
never cut. The tables are written from the architectures, not read from the library.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 11


@dataclass
class Specimen:
    """A network, an input, its groups and its table."""

    build: Callable[[], nn.Module]
    example: Callable[[], Tensor]
    sizes: dict[str, int]
    table: dict[str, str]
    varies_in_time: bool = False

    def dimensions(self, name: str, tensor: Tensor) -> list[str]:
        for pattern, text in self.table.items():
            if re.fullmatch(pattern, name):
                dims = text.split()
                assert len(dims) <= tensor.dim(), name
                return dims + ["."] * (tensor.dim() - len(dims))
        return ["."] * tensor.dim()

    def entries(self, dim: str, length: int, kept: dict[str, Tensor]) -> Tensor:
        """Indices of a dimension that belong to kept units, in the order of ``kept``."""
        if dim == ".":
            return torch.arange(length)
        found, start = [], 0
        for term in dim.split("+"):
            if term.isdigit():
                found += range(start, start + int(term))
                start += int(term)
                continue
            blocks, group, span = re.fullmatch(r"(?:(\d+)\*)?([^*]+?)(?:\*(\d+))?", term).groups()
            n, units, span = int(blocks or 1), self.sizes[group], int(span or 1)
            found += [
                start + (block * units + unit) * span + entry
                for block in range(n)
                for unit in kept[group].tolist()
                for entry in range(span)
            ]
            start += n * units * span
        assert start == length, (dim, start, length)
        return torch.tensor(found)


def images(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))


def tokens(time: int = 6) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(1)
    return lambda: torch.randint(1, VOCABULARY, (3, time), generator=generator.manual_seed(1))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(12, 8), nn.LayerNorm(8)
        self.second, self.dropout = nn.Linear(8, 6), nn.Dropout(0.3)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(functional.gelu(self.first(x.view(x.size(0), -1))))
        return self.head(self.dropout(torch.sigmoid(self.second(x))))


class VGG(nn.Module):
    """Convolutions of the style conv-norm-relu-pool, and a classifier on the flattened map."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for below, above in ((2, 4), (4, 6)):
            layers += [nn.Conv2d(below, above, 3, padding=1), nn.BatchNorm2d(above)]
            layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(6 * 4, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class Block(nn.Module):
    def __init__(self, below: int, above: int, stride: int, norm: Callable[[int], nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(below, above, 3, stride, 1, bias=False)
        self.norm1 = norm(above)
        self.conv2 = nn.Conv2d(above, above, 3, 1, 1, bias=False)
        self.norm2 = norm(above)
        self.shortcut = nn.Sequential()
        if stride != 1 or below != above:
            self.shortcut = nn.Sequential(
                nn.Conv2d(below, above, 1, stride, bias=False), norm(above)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        out += self.shortcut(x)
        return functional.relu(out)


class ResNet18(nn.Module):
    CHANNELS = (4, 6, 8, 10)

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, 1, 1, bias=False)
        self.norm1 = norm(4)
        below = 4
        for stage, above in enumerate(self.CHANNELS, start=1):
            blocks = [
                Block(below, above, 1 if stage == 1 else 2, norm),
                Block(above, above, 1, norm),
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            below = above
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(below, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(self.pool(x).flatten(1))


def resnet(norm: Callable[[int], nn.Module], per_unit: int) -> Specimen:
    """Each stage has one stream that its blocks add to; the inside of a block is its own."""
    span = f"*{per_unit}" if per_unit > 1 else ""
    stream = {stage: f"layer{stage}.0.conv2" for stage in (2, 3, 4)} | {1: "conv1", 0: "conv1"}
    sizes = {"conv1": 4 // per_unit}
    table = {r"conv1\.weight": f"conv1{span} .", r"norm1\.(?!num).*": f"conv1{span}"}
    for stage, channels in enumerate(ResNet18.CHANNELS, start=1):
        own = stream[stage]
        for block in (0, 1):
            path, escaped = f"layer{stage}.{block}", rf"layer{stage}\.{block}\."
            below = stream[stage - 1] if block == 0 else own
            inside = f"{path}.conv1"
            sizes |= {inside: channels // per_unit, own: channels // per_unit}
            table |= {
                rf"{escaped}conv1\.weight": f"{inside}{span} {below}{span}",
                rf"{escaped}norm1\.(?!num).*": f"{inside}{span}",
                rf"{escaped}conv2\.weight": f"{own}{span} {inside}{span}",
                rf"{escaped}norm2\.(?!num).*": f"{own}{span}",
                rf"{escaped}shortcut\.0\.weight": f"{own}{span} {below}{span}",
                rf"{escaped}shortcut\.1\.(?!num).*": f"{own}{span}",
            }
    table[r"fc\.weight"] = f". {stream[4]}{span}"
    return Specimen(lambda: ResNet18(norm), images(2, 8, 8), sizes, table)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = functional.adaptive_avg_pool2d(x, 1)
        return x * self.up(self.down(gate).relu()).sigmoid()


class MobileNet(nn.Module):
    """Inverted residuals: expand, depthwise, squeeze and excite, project, add."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, 2, 1)
        self.expand = nn.Conv2d(4, 6, 1)
        self.norm1 = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.excite = SqueezeExcite(6)
        self.project = nn.Conv2d(6, 4, 1)
        self.multiply = nn.Conv2d(4, 8, 3, groups=4)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = functional.relu6(self.norm1(self.expand(x)))
        y = functional.hardswish(self.norm2(self.depthwise(y)))
        x = self.multiply(x + self.project(self.excite(y)))
        return self.head(x.mean((2, 3)))


class DenseNet(nn.Module):
    """Each layer reads the concatenation of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(5, 10), nn.Conv2d(10, 4, 3, padding=1)
        self.transition = nn.Conv2d(14, 6, 1)
        self.head = nn.Linear(6 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        features.append(self.conv1(self.norm1(features[0]).relu()))
        features.append(self.conv2(self.norm2(torch.cat(features, 1)).relu()))
        x = functional.avg_pool2d(self.transition(torch.cat(features, dim=1)), 2)
        return self.head(x.flatten(1))


class ShuffleNet(nn.Module):
    """Grouped convolutions with a channel shuffle between them, and two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 1, groups=4)
        self.mix = nn.Conv2d(12, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.stem(x)).relu()
        n, c, h, w = x.shape
        x = x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.mix(x).relu().amax(dim=(-2, -1)))


class RecurrentLM(nn.Module):
    """A language model whose decoder is its embedding."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 6, padding_idx=0)
        self.rnn = cell(6, 8, num_layers=2, batch_first=True, dropout=0.2)
        self.project = nn.Linear(8, 6)
        self.decoder = nn.Linear(6, VOCABULARY)
        self.decoder.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(self.embedding(x))
        return self.decoder(self.project(states))


def recurrent(cell: type[nn.RNNBase], gates: int) -> Specimen:
    table = {
        r"(embedding|decoder)\.weight": ". embedding",
        r"rnn\.weight_ih_l0": f"{gates}*rnn embedding",
        r"rnn\.weight_[ih]h_l\d": f"{gates}*rnn rnn",
        r"rnn\.bias.*": f"{gates}*rnn",
        r"project\.weight": "embedding rnn",
        r"project\.bias": "embedding",
    }
    sizes = {"embedding": 6, "rnn": 8}
    return Specimen(lambda: RecurrentLM(cell), tokens(), sizes, table, varies_in_time=True)


class BiLSTMTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 5)
        self.lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(x).transpose(0, 1))[0].transpose(0, 1))


class CausalTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.positions = nn.Embedding(12, 8)
        layer = nn.TransformerEncoderLayer(
            8, 4, 12, dropout=0.1, batch_first=True, norm_first=True, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        states = self.embedding(x) + self.positions(torch.arange(x.shape[1]))
        return self.head(self.encoder(states, mask=mask, is_causal=True))


class Attention(nn.Module):
    """Written by hand: one projection, products, softmax."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, t, c))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 8, kernel_size=2, stride=2)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 17, 8))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(8),
                    "attn": Attention(8, 2),
                    "norm2": nn.LayerNorm(8),
                    "mlp": nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8)),
                }
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = x + block["attn"](block["norm1"](x))
            x = x + block["mlp"](block["norm2"](x))
        return self.head(self.norm(x)[:, 0])


class Llama(nn.Module):
    """Rotary positions, keys shared by two queries each, gated perceptron, RMS normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(VOCABULARY, 8), nn.RMSNorm(8)
        self.q, self.o = nn.Linear(8, 16), nn.Linear(16, 8)
        self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8)
        self.gate, self.up, self.down = nn.Linear(8, 10), nn.Linear(8, 10), nn.Linear(10, 8)
        self.head = nn.Linear(8, VOCABULARY)
        self.register_buffer("frequencies", 0.1 ** torch.arange(2.0), persistent=False)

    def rotate(self, x: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(x.shape[2]), self.frequencies).repeat(1, 2)
        turned = torch.cat([-x[..., 2:], x[..., :2]], dim=-1)
        return x * angles.cos() + turned * angles.sin()

    def forward(self, tokens: Tensor) -> Tensor:
        n, t = tokens.shape
        x = self.embedding(tokens)
        y = self.norm(x)
        q = self.rotate(self.q(y).view(n, t, 4, 4).transpose(1, 2))
        k = self.rotate(self.k(y).view(n, t, 2, 4).transpose(1, 2))
        v = self.v(y).view(n, t, 2, 4).transpose(1, 2)
        k, v = (z[:, :, None].expand(n, 2, 2, t, 4).reshape(n, 4, t, 4) for z in (k, v))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(attended.transpose(1, 2).reshape(n, t, 16))
        return self.head(x + self.down(functional.silu(self.gate(x)) * self.up(x)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, 2, 1)
        self.up = nn.ConvTranspose2d(6, 5, 2, stride=2)
        self.join = nn.Conv2d(9, 4, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4, affine=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x).relu()
        up = self.up(functional.leaky_relu(self.down2(skip)))
        return self.head(torch.einsum("nchw->nc", self.norm(self.join(torch.cat([skip, up], 1)))))


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=12, n_embd=8, n_layer=2, n_head=4, bos_token_id=1,
        eos_token_id=1,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def bert() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=10, max_position_embeddings=12,
    )  # fmt: skip
    return BertForMaskedLM(config)


def gpt2_table() -> tuple[dict[str, int], dict[str, str]]:
    stream = "transformer.wte"
    sizes = {stream: 8}
    table = {
        r"(transformer\.w[tp]e|lm_head)\.weight": f". {stream}",
        r"transformer\.(h\.\d\.)?ln.*": stream,
        r"transformer\.h\.\d\.(attn|mlp)\.c_proj\.bias": stream,
    }
    for layer in (0, 1):
        path, escaped = f"transformer.h.{layer}", rf"transformer\.h\.{layer}\."
        heads, inside = f"{path}.attn.c_attn", f"{path}.mlp.c_fc"
        sizes |= {heads: 4, inside: 32}
        table |= {
            rf"{escaped}attn\.c_attn\.weight": f"{stream} 3*{heads}*2",
            rf"{escaped}attn\.c_attn\.bias": f"3*{heads}*2",
            rf"{escaped}attn\.c_proj\.weight": f"{heads}*2 {stream}",
            rf"{escaped}mlp\.c_fc\.weight": f"{stream} {inside}",
            rf"{escaped}mlp\.c_fc\.bias": inside,
            rf"{escaped}mlp\.c_proj\.weight": f"{inside} {stream}",
        }
    return sizes, table


def bert_table() -> tuple[dict[str, int], dict[str, str]]:
    stream = "bert.embeddings.word_embeddings"
    sizes = {stream: 8}
    table = {
        r"bert\.embeddings\..*_embeddings\.weight": f". {stream}",
        r".*LayerNorm.*": stream,
        r"cls\.predictions\.transform\.dense\.weight": f"{stream} {stream}",
        r"cls\.predictions\.transform\.dense\.bias": stream,
        r"cls\.predictions\.decoder\.weight": f". {stream}",
    }
    for layer in (0, 1):
        path, escaped = f"bert.encoder.layer.{layer}", rf"bert\.encoder\.layer\.{layer}\."
        heads, inside = f"{path}.attention.self.query", f"{path}.intermediate.dense"
        sizes |= {heads: 2, inside: 10}
        table |= {
            rf"{escaped}attention\.self\..*weight": f"{heads}*4 {stream}",
            rf"{escaped}attention\.self\..*bias": f"{heads}*4",
            rf"{escaped}attention\.output\.dense\.weight": f"{stream} {heads}*4",
            rf"{escaped}(attention\.)?output\.dense\.bias": stream,
            rf"{escaped}intermediate\.dense\.weight": f"{inside} {stream}",
            rf"{escaped}intermediate\.dense\.bias": inside,
            rf"{escaped}output\.dense\.weight": f"{stream} {inside}",
        }
    return sizes, table


def encoder_table() -> tuple[dict[str, int], dict[str, str]]:
    sizes = {"embedding": 8}
    table = {r"(embedding|positions|head)\.weight": ". embedding", r".*norm.*": "embedding"}
    for layer in (0, 1):
        path, escaped = f"encoder.layers.{layer}", rf"encoder\.layers\.{layer}\."
        heads, inside = f"{path}.self_attn", f"{path}.linear1"
        sizes |= {heads: 4, inside: 12}
        table |= {
            rf"{escaped}self_attn\.in_proj_weight": f"3*{heads}*2 embedding",
            rf"{escaped}self_attn\.in_proj_bias": f"3*{heads}*2",
            rf"{escaped}self_attn\.out_proj\.weight": f"embedding {heads}*2",
            rf"{escaped}self_attn\.out_proj\.bias": "embedding",
            rf"{escaped}linear1\.weight": f"{inside} embedding",
            rf"{escaped}linear1\.bias": inside,
            rf"{escaped}linear2\.weight": f"embedding {inside}",
            rf"{escaped}linear2\.bias": "embedding",
        }
    return sizes, table


def vit_table() -> tuple[dict[str, int], dict[str, str]]:
    sizes = {"patches": 8}
    table = {
        r"patches\.(weight|bias)": "patches",
        "cls|positions": ". . patches",
        r".*norm.*": "patches",
        r"head\.weight": ". patches",
    }
    for block in (0, 1):
        path, escaped = f"blocks.{block}", rf"blocks\.{block}\."
        heads, inside = f"{path}.attn.qkv", f"{path}.mlp.0"
        sizes |= {heads: 2, inside: 12}
        table |= {
            rf"{escaped}attn\.qkv\.weight": f"3*{heads}*4 patches",
            rf"{escaped}attn\.qkv\.bias": f"3*{heads}*4",
            rf"{escaped}attn\.out\.weight": f"patches {heads}*4",
            rf"{escaped}attn\.out\.bias": "patches",
            rf"{escaped}mlp\.0\.weight": f"{inside} patches",
            rf"{escaped}mlp\.0\.bias": inside,
            rf"{escaped}mlp\.2\.weight": f"patches {inside}",
            rf"{escaped}mlp\.2\.bias": "patches",
        }
    return sizes, table


ZOO = {
    "mlp": Specimen(
        MLP,
        images(3, 4),
        {"first": 8, "second": 6},
        {
            r"first\..*|norm\..*": "first",
            r"second\.weight": "second first",
            r"second\.bias": "second",
            r"head\.weight": ". second",
        },
    ),
    "vgg": Specimen(
        VGG,
        images(2, 8, 8),
        {"features.0": 4, "features.4": 6, "classifier.0": 10},
        {
            r"features\.(0|1)\.(?!num).*": "features.0",
            r"features\.4\.weight": "features.4 features.0",
            r"features\.(4|5)\.(?!num).*": "features.4",
            r"classifier\.0\.weight": "classifier.0 features.4*4",
            r"classifier\.0\.bias": "classifier.0",
            r"classifier\.3\.weight": ". classifier.0",
        },
    ),
    "resnet_batchnorm": resnet(nn.BatchNorm2d, 1),
    "resnet_groupnorm": resnet(lambda channels: nn.GroupNorm(channels // 2, channels), 2),
    "mobilenet": Specimen(
        MobileNet,
        images(2, 8, 8),
        {"stem": 4, "expand": 6, "excite.down": 3},
        {
            r"stem\..*": "stem",
            r"expand\.weight": "expand stem",
            r"(expand\.bias|norm.\.(?!num).*|depthwise\.weight|excite\.up\.bias)": "expand",
            r"excite\.down\.weight": "excite.down expand",
            r"excite\.down\.bias": "excite.down",
            r"excite\.up\.weight": "expand excite.down",
            r"project\.weight": "stem expand",
            r"project\.bias": "stem",
            r"multiply\..*": "stem*2",
            r"head\.weight": ". stem*2",
        },
    ),
    "densenet": Specimen(
        DenseNet,
        images(2, 4, 4),
        {"stem": 3, "conv1": 2, "conv2": 4, "transition": 6},
        {
            r"(stem|norm1)\.(?!num).*": "stem*2",
            r"conv1\.weight": "conv1*2 stem*2",
            r"conv1\.bias": "conv1*2",
            r"norm2\..*": "stem*2+conv1*2",
            r"conv2\.weight": "conv2 stem*2+conv1*2",
            r"conv2\.bias": "conv2",
            r"transition\.weight": "transition stem*2+conv1*2+conv2",
            r"transition\.bias": "transition",
            r"head\.weight": ". transition*4",
        },
    ),
    "shufflenet": Specimen(
        ShuffleNet,
        images(2, 4, 4),
        {"stem": 4, "mix": 6},
        {
            r"stem\..*": "stem*2",
            r"grouped\..*": "stem*3",
            r"mix\.weight": "mix 3*stem",
            r"mix\.bias": "mix",
            r"head\.weight": ". mix",
        },
    ),
    "unet": Specimen(
        UNet,
        images(2, 6, 6),
        {"down1": 4, "down2": 6, "up": 5, "join": 4},
        {
            r"down1\..*": "down1",
            r"down2\.weight": "down2 down1",
            r"down2\.bias": "down2",
            r"up\.weight": "down2 up",
            r"up\.bias": "up",
            r"join\.weight": "join down1+up",
            r"join\.bias|norm\..*": "join",
            r"head\.weight": ". join",
        },
    ),
    "lstm": recurrent(nn.LSTM, 4),
    "gru": recurrent(nn.GRU, 3),
    "bilstm": Specimen(
        BiLSTMTagger,
        tokens(),
        {"embedding": 5, "lstm": 4},
        {
            r"embedding\.weight": ". embedding",
            r"lstm\.weight_ih_l0.*": "4*lstm embedding",
            r"lstm\.weight_ih_l1.*": "4*lstm 2*lstm",
            r"lstm\.weight_hh.*": "4*lstm lstm",
            r"lstm\.bias.*": "4*lstm",
            r"head\.weight": ". 2*lstm",
        },
        varies_in_time=True,
    ),
    "transformer": Specimen(
        CausalTransformer, tokens(), *encoder_table(), varies_in_time=True
    ),
    "llama": Specimen(
        Llama,
        tokens(),
        {"embedding": 8, "q": 2, "gate": 10},
        {
            r"embedding\.weight": ". embedding",
            r"norm\.weight|(o|down)\.bias": "embedding",
            r"q\.weight": "q*8 embedding",
            r"q\.bias": "q*8",
            r"(k|v)\.weight": "q*4 embedding",
            r"(k|v)\.bias": "q*4",
            r"o\.weight": "embedding q*8",
            r"(gate|up)\.weight": "gate embedding",
            r"(gate|up)\.bias": "gate",
            r"down\.weight": "embedding gate",
            r"head\.weight": ". embedding",
        },
        varies_in_time=True,
    ),
    "vit": Specimen(ViT, images(2, 8, 8), *vit_table()),
}  # fmt: skip

if find_spec("transformers"):
    ZOO["gpt2"] = Specimen(gpt2, tokens(), *gpt2_table(), varies_in_time=True)
    ZOO["bert"] = Specimen(bert, tokens(), *bert_table(), varies_in_time=True)
