"""Networks of ``pytorchcv``, with weights drawn anew; images are small where they may be."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import nn

from .listed import Network, numbers


def model(file: str, name: str) -> Callable[[], nn.Module]:
    """A model of a file; its last pooling takes maps of any size."""

    def build() -> nn.Module:
        module = getattr(import_module(f"pytorchcv.models.{file}"), name)(num_classes=10)
        if isinstance(module.features, nn.Module) and hasattr(module.features, "final_pool"):
            module.features.final_pool = nn.AdaptiveAvgPool2d(1)
        return module

    return build


LISTED = [
    ("ResNet", "resnet", "resnet10", 32, ""),
    ("ResNet", "resnet_cifar", "resnet20_cifar10", 32, ""),
    ("ResNet", "preresnet", "preresnet10", 32, ""),
    ("SENet", "seresnet", "seresnet10", 32, "squeeze and excite"),
    ("ResNeXt", "resnext", "resnext14_16x4d", 32, "grouped convolutions"),
    ("DenseNet", "densenet", "densenet121", 32, "120 concatenations"),
    ("MobileNet", "mobilenet", "mobilenet_wd4", 32, "depthwise convolutions"),
    ("MobileNet", "mobilenetv2", "mobilenetv2_wd4", 32, "depthwise convolutions"),
    ("MobileNet", "mobilenetv3", "mobilenetv3_small_w7d20", 32, "squeeze and excite"),
    ("EfficientNet", "efficientnet", "efficientnet_b0", 32, "squeeze and excite"),
    ("MnasNet", "mnasnet", "mnasnet_small", 32, ""),
    ("ShuffleNet", "shufflenet", "shufflenet_g3_wd4", 32, "channel shuffle, grouped convolutions"),
    ("ShuffleNet", "shufflenetv2", "shufflenetv2_wd2", 32, "channel shuffle, splits"),
    ("MixNet", "mixnet", "mixnet_s", 32, "uneven splits"),
    ("SqueezeNet", "squeezenet", "squeezenet_v1_1", 224, "concatenations"),
    ("GhostNet", "ghostnet", "ghostnet", 32, "concatenations, depthwise convolutions"),
    ("RegNet", "regnet", "regnetx002", 32, "grouped convolutions"),
    ("NIN", "nin_cifar", "nin_cifar10", 32, ""),
    ("VoVNet", "vovnet", "vovnet39", 32, "concatenations"),
    ("DLA", "dla", "dla34", 32, "concatenations"),
    ("HarDNet", "hardnet", "hardnet39ds", 32, "concatenations"),
    ("PeleeNet", "peleenet", "peleenet", 32, "concatenations"),
    ("CondenseNet", "condensenet", "condensenet74_c4_g4", 32, "channels by index"),
    ("CBAM", "cbamresnet", "cbam_resnet18", 32, "mean and maximum over channels"),
]

NETWORKS = [
    Network(name, family, "pytorchcv", model(file, name), numbers(2, 3, size, size), asks)
    for family, file, name, size, asks in LISTED
]
