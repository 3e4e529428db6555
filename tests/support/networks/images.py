"""Networks for images and numbers, as users write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .listed import Network, numbers


class FlatMLP(nn.Module):
    """The first network of most tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(144, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 12), nn.ReLU()
        )
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x.view(-1, 144)))


class FlatImages(nn.Module):
    """Takes the flat images of a table and makes squares of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 8, 3)
        self.fc1, self.fc2 = nn.Linear(8 * 2 * 2, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 1, 12, 12)
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.relu(self.conv2(x))
        x = x.view(-1, 8 * 2 * 2)
        return functional.log_softmax(self.fc2(functional.relu(self.fc1(x))), dim=1)


class LengthOfBatch(nn.Module):
    """Asks for the number of samples by ``len``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc, self.head = nn.Linear(8 * 16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.norm(self.conv(x))), 2)
        return self.head(functional.relu(self.fc(x.reshape(len(x), -1))))


class PaddedBlock(nn.Module):
    """A shortcut of option A: every other pixel, and zeros for the further channels."""

    def __init__(self, below: int, above: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(below, above, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(above)
        self.conv2 = nn.Conv2d(above, above, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(above)
        self.pads = stride != 1 or below != above
        self.n_pad = (above - below) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.pads:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.n_pad, self.n_pad))
        return functional.relu(out + x)


class ResNet20(nn.Module):
    """ResNet-20 of CIFAR-10 as its authors describe it, with fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        blocks, below = [], 4
        for above, stride in ((4, 1), (8, 2), (16, 2)):
            for number in range(3):
                blocks.append(PaddedBlock(below, above, stride if number == 0 else 1))
                below = above
        self.blocks, self.linear = nn.Sequential(*blocks), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        x = functional.avg_pool2d(x, x.size()[3])
        return self.linear(x.view(x.size(0), -1))


class OneGroupBlock(nn.Module):
    """A residual block whose normalisation is over all channels and pixels of a sample."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.GroupNorm(1, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(
            x + self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        )


class OneGroupResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(1, 8)
        self.blocks = nn.Sequential(OneGroupBlock(8), OneGroupBlock(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(functional.relu(self.norm(self.stem(x)))).mean((2, 3)))


def twice(below: int, above: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(below, above, 3, padding=1, bias=False), nn.BatchNorm2d(above), nn.ReLU(True),
        nn.Conv2d(above, above, 3, padding=1, bias=False), nn.BatchNorm2d(above), nn.ReLU(True),
    )  # fmt: skip


class UNet(nn.Module):
    """Three levels; classes of pixels last."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = twice(3, 6), twice(6, 8), twice(8, 10)
        self.up2, self.up1 = nn.ConvTranspose2d(10, 8, 2, 2), nn.ConvTranspose2d(8, 6, 2, 2)
        self.join2, self.join1 = twice(16, 8), twice(12, 6)
        self.out = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(functional.max_pool2d(one, 2))
        x = self.down3(functional.max_pool2d(two, 2))
        x = self.join2(torch.cat([two, self.up2(x)], dim=1))
        x = self.join1(torch.cat([one, self.up1(x)], dim=1))
        return self.out(x).movedim(1, -1)


class SuperResolution(nn.Module):
    """ESPCN: an image of twice the size out of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 12, 5, padding=2), nn.Conv2d(12, 8, 3, padding=1)
        self.conv3, self.up = nn.Conv2d(8, 16, 3, padding=1), nn.PixelShuffle(2)
        self.out = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.conv2(torch.tanh(self.conv1(x))))
        return self.out(self.up(self.conv3(x))).movedim(1, -1)


class VAE(nn.Module):
    """Gives the image, and mean and logarithm of the variance of its code."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(36, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.fc3, self.fc4 = nn.Linear(4, 16), nn.Linear(16, 36)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = functional.relu(self.fc1(x.view(-1, 36)))
        mean, log_var = self.fc21(hidden), self.fc22(hidden)
        code = mean
        if self.training:
            code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        return torch.sigmoid(self.fc4(functional.relu(self.fc3(code)))), mean, log_var


class TwoHeads(nn.Module):
    """Says what is in an image and where."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.shared = nn.Linear(12, 16)
        self.label, self.box = nn.Linear(16, 5), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        x = functional.relu(self.shared(functional.adaptive_avg_pool2d(x, 1).flatten(1)))
        return {"label": self.label(x), "box": self.box(x).sigmoid()}


class Discriminator(nn.Module):
    """Of SN-GAN."""

    def __init__(self) -> None:
        super().__init__()
        norm = torch.nn.utils.parametrizations.spectral_norm
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.conv2 = norm(self.conv2)
        self.hidden, self.out = nn.Linear(12 * 4, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.conv2(functional.leaky_relu(self.conv1(x), 0.1)), 0.1)
        return self.out(functional.leaky_relu(self.hidden(x.flatten(1)), 0.1))


class CosineHead(nn.Module):
    """Scores are cosines between features and one direction for each class."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.embed = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 12)
        self.directions = nn.Parameter(torch.randn(5, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(functional.relu(self.conv(x)).mean((2, 3)))
        return 16 * functional.linear(
            functional.normalize(x), functional.normalize(self.directions)
        )


class ChannelShuffle(nn.Module):
    """Grouped convolutions that exchange their channels by a view."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.group1 = nn.Conv2d(12, 12, 1, groups=3)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.group2 = nn.Conv2d(12, 12, 1, groups=3)
        self.fc, self.head = nn.Linear(12, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.stem(x)))
        y = functional.relu(self.group1(x))
        batch, channels, height, width = y.size()
        y = y.view(batch, 3, channels // 3, height, width)
        y = torch.transpose(y, 1, 2).contiguous().view(batch, -1, height, width)
        x = x + self.group2(self.depthwise(y))
        return self.head(functional.relu(self.fc(x.mean([2, 3]))))


class FrozenBackbone(nn.Module):
    """Trains a head on the features of a network that does not train."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1)
        )
        self.hidden, self.head = nn.Linear(12, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(x).mean((2, 3))
        return self.head(functional.relu(self.hidden(features)))


class Mixer(nn.Module):
    """MLP-Mixer: perceptrons along patches and along channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.norms = nn.ModuleList([nn.LayerNorm(12) for _ in range(4)])
        self.along_patches = nn.ModuleList(
            [nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 16)) for _ in range(2)]
        )
        self.along_channels = nn.ModuleList(
            [nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12)) for _ in range(2)]
        )
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for layer in range(2):
            y = self.norms[2 * layer](x).transpose(1, 2)
            x = x + self.along_patches[layer](y).transpose(1, 2)
            x = x + self.along_channels[layer](self.norms[2 * layer + 1](x))
        return self.head(self.norm(x).mean(dim=1))


class PointNet(nn.Module):
    """A set of points: one perceptron for each, and the maximum over them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 16, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(8), nn.BatchNorm1d(16)
        self.fc1, self.fc2 = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, points: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(points.transpose(2, 1))))
        x = torch.max(self.bn2(self.conv2(x)), 2, keepdim=True)[0]
        return self.fc2(functional.relu(self.fc1(x.view(-1, 16))))


def line(
    name: str, family: str, build: type[nn.Module], shape: tuple[int, ...], asks: str = ""
) -> Network:
    return Network(name, family, "written", build, numbers(*shape), asks)


NETWORKS = [
    line("flat_mlp", "Perceptron", FlatMLP, (3, 1, 12, 12), "view(-1, 144)"),
    line("flat_images", "LeNet", FlatImages, (3, 144), "view(-1, 1, 12, 12) of flat images"),
    line("length_of_batch", "LeNet", LengthOfBatch, (3, 3, 8, 8), "len(x)"),
    line("resnet20_padded", "ResNet", ResNet20, (3, 3, 16, 16), "padded shortcuts"),
    line("resnet_one_group", "ResNet", OneGroupResNet, (3, 3, 8, 8), "GroupNorm(1, C)"),
    line("unet", "U-Net", UNet, (2, 3, 16, 16), "concatenations, transposed convolutions"),
    line("espcn", "ESPCN", SuperResolution, (2, 3, 8, 8), "PixelShuffle"),
    line("vae", "VAE", VAE, (3, 1, 6, 6), "three outputs"),
    line("two_heads", "Two heads", TwoHeads, (3, 3, 16, 16), "two outputs"),
    line("discriminator", "SN-GAN", Discriminator, (3, 3, 8, 8), "spectral norm"),
    line("cosine_head", "Cosine head", CosineHead, (3, 3, 8, 8), "cosines"),
    line("channel_shuffle", "ShuffleNet", ChannelShuffle, (3, 3, 8, 8), "channel shuffle"),
    line("frozen_backbone", "Frozen features", FrozenBackbone, (3, 3, 8, 8), "a part in no_grad"),
    line("mixer", "MLP-Mixer", Mixer, (2, 3, 16, 16)),
    line("pointnet", "PointNet", PointNet, (3, 7, 3), "maximum over points"),
]
