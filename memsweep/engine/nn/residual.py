"""A residual convolutional network, and the normalizations that networks choose from."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from memsweep.engine.nn.sequence_models import Hidden, unchanged
from memsweep.spec.fields.groups import Model

GROUP_CHANNELS = 8
"""Channels of a group of a group normalization; where 8 does not divide them, all channels are one group."""
STAGES = 3


def normalization(norm: str, units: int, *, of_images: bool = False) -> nn.Module:
    """Returns the layer of `model.norm` for this number of units or channels; "none": a layer that changes nothing."""
    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return nn.BatchNorm2d(units) if of_images else nn.BatchNorm1d(units)
    groups = units // GROUP_CHANNELS if units % GROUP_CHANNELS == 0 else 1
    return nn.LayerNorm(units) if norm == "layer" else nn.GroupNorm(groups, units)


def is_normalization(layer: nn.Module) -> bool:
    """Returns whether a layer is one of `normalization`."""
    return isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)


def in_single_precision(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns a layer's inputs in single precision: under vmap, normalizations refuse bfloat16 beside float32."""
    return tuple(x.float() for x in inputs)


class ResNet(nn.Module):
    """The residual network of He et al. (2016) for small images, at any width, with three stages of `depth` blocks.

    A convolution 3x3 of `width` channels, then stages of width, 2 width and 4 width channels; the second and third
    begin with stride 2. A block is two convolutions 3x3, added to its input, which a convolution 1x1 fits where sizes
    differ (the paper's option B). `model.norm` normalizes after each convolution. Channels are averaged over places,
    then read out. Depth 3 at width 16 is ResNet-20.
    forward: inputs [B, D], an image row by row, channel first -> logits [B, K]; `hidden` is applied to the output of
    the first convolution and of each block.
    """

    def __init__(self, model: Model, image: tuple[int, int, int], classes: int, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.image = image
        width = model.width
        self.enter = nn.Conv2d(image[0], width, 3, padding=1, bias=model.norm == "none")
        self.norm = normalization(model.norm, width, of_images=True)
        self.activation = activation
        blocks, channels = [], width
        for stage in range(STAGES):
            for number in range(model.depth):
                outputs = width * 2**stage
                blocks.append(Block(channels, outputs, 2 if stage and not number else 1, model.norm, activation))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.readout = nn.Linear(channels, classes)

    def forward(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns logits [B, K]."""
        h = inputs.reshape(*inputs.shape[:-1], *self.image)
        h = hidden(self.activation(self.norm(self.enter(h))), 0)
        for number, block in enumerate(self.blocks, 1):
            h = hidden(block(h), number)
        logits: Tensor = self.readout(h.flatten(-2).mean(-1))
        return logits


class Block(nn.Module):
    """Two convolutions 3x3 beside a shortcut.  forward: [B, C, height, width] -> [B, outputs, height / stride, ...]."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        bias = norm == "none"
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.norm_first, self.norm_second = (normalization(norm, outputs, of_images=True) for _ in range(2))
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=bias), normalization(norm, outputs, of_images=True)
            )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output."""
        h = self.activation(self.norm_first(self.first(x)))
        total: Tensor = self.shortcut(x) + self.norm_second(self.second(h))
        return self.activation(total)
