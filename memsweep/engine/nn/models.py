"""Networks of one member, as ordinary modules, and their first weights. The trainer lifts them over members."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from memsweep.data import tasks
from memsweep.engine.nn import member_fields, memorizer, parametrization
from memsweep.engine.nn.residual import ResNet, in_single_precision, is_normalization, normalization
from memsweep.engine.nn.sequence_models import SEQUENCE_MODELS, Hidden, Recurrent, unchanged
from memsweep.spec.config import ConfigError, TrialConfig, imported
from memsweep.spec.fields import sizes
from memsweep.spec.fields.groups import Model
from memsweep.spec.fields.own import bound
from memsweep.spec.mends import is_uneven
from memsweep.spec.options import FAMILIES
from memsweep.spec.seeds import generator, key

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
    "leaky_relu": functional.leaky_relu,
    "hardtanh": functional.hardtanh,
}


NARROW = 16
"""A linear layer with fewer outputs is narrow."""
EVEN = 8
"""Rows of a multiple of this many numbers begin at multiples of 32 bytes, and fill the processor's vectors."""


class MLP(nn.Module):
    """`depth` hidden layers of `width` units with one nonlinearity, then a linear read-out.

    `model.norm` normalizes a layer's sums before the nonlinearity.
    forward: inputs [B, D] -> logits [B, K]; `hidden` is applied to the output of each hidden layer.
    """

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__()
        sizes = [input_dim, *[model.width] * model.depth, classes]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        norms = model.depth if model.norm != "none" else 0
        self.norms = nn.ModuleList(normalization(model.norm, model.width) for _ in range(norms))
        self.activation = ACTIVATIONS[model.activation]

    def forward(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns logits [B, K]."""
        h = inputs
        *hidden_layers, readout = self.layers
        for number, layer in enumerate(hidden_layers):
            h = layer(h)
            h = hidden(self.activation(self.norms[number](h) if self.norms else h), number)
        logits: Tensor = readout(h)
        return logits


class CNN(nn.Module):
    """The small AlexNet of Arpit et al. (2017, section 2), at any width: two convolutions and two dense layers.

    Crop by 2 pixels; twice convolution 5x5, batch normalization, nonlinearity, maximum over 3x3; dense with 1.92 and
    0.96 units a channel, normalized too. The paper uses 200 channels, so 384 and 192 units. It gives neither padding
    nor stride: here convolutions keep the size and pooling has stride 2, as in AlexNet (a reconstruction).
    forward: inputs [B, D], an image row by row, channel first -> logits [B, K]; `hidden` is applied to the output of
    the four hidden layers.
    """

    def __init__(self, model: Model, image: tuple[int, int, int], classes: int):
        super().__init__()
        self.channels, *self.sides = image
        width = model.width
        self.crop = tasks.CROPPED_PIXELS
        pooled = [side - 2 * self.crop for side in self.sides]
        for _ in range(2):
            pooled = [(side - 3) // 2 + 1 for side in pooled]
        dense = [width * pooled[0] * pooled[1], *(max(1, round(units * width / 200)) for units in (384, 192))]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, width, 5, padding=2) for i in (self.channels, width))
        self.dense = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dense))
        self.norms = nn.ModuleList([*(nn.BatchNorm2d(width) for _ in range(2)), *map(nn.BatchNorm1d, dense[1:])])
        self.readout = nn.Linear(dense[-1], classes)
        self.activation = ACTIVATIONS[model.activation]

    def forward(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns logits [B, K]."""
        height, width = self.sides
        h = inputs.reshape(*inputs.shape[:-1], self.channels, height, width)
        h = h[..., self.crop : height - self.crop, self.crop : width - self.crop]
        for number, layer in enumerate([*self.convolutions, *self.dense]):
            h = self.activation(self.norms[number](layer(h)))
            if number < 2:
                h = functional.max_pool2d(h, 3, 2)
            h = hidden(h, number)
            if number == 1:
                h = h.flatten(-3)
        logits: Tensor = self.readout(h)
        return logits


class NarrowLinear(nn.Linear):
    """A linear layer with few outputs, by the transposed product: three to five times as fast on a CPU.

    The library's product with fewer than 16 columns is slow; this product sums in another order, so last bits differ.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the layer's output."""
        product = torch.matmul(self.weight, inputs.mT).mT
        return product if self.bias is None else product + self.bias


class EvenLinear(nn.Linear):
    """A linear layer that multiplies padded copies, so that a member's products do not depend on other members.

    The library's rounding depends on a matrix's address, and for products with one column on the number of members.
    Padded rows begin at multiples of 32 bytes, and no product, forward or backward, has one column. The bias is a
    column of the weights, because the rounding of its gradient, a sum over rows, would depend on members too.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the layer's output."""
        rows = functional.pad(inputs.reshape(-1, self.in_features), (0, 1), value=1.0)
        weight = self.weight
        bias = weight.new_zeros(self.out_features) if self.bias is None else self.bias
        columns, outputs = -rows.shape[1] % EVEN, -self.out_features % EVEN
        weight = functional.pad(torch.cat([weight, bias[:, None]], dim=1), (0, columns, 0, outputs))
        product = functional.pad(rows, (0, columns)) @ weight.mT
        return product[:, : self.out_features].reshape(*inputs.shape[:-1], self.out_features)


def has_uneven_layers(module: nn.Module, config: TrialConfig) -> bool:
    """Returns whether products of a linear layer would depend on the other members."""
    rows, dtype = config.optimizer.batch_size, config.compute.dtype
    return any(is_uneven(layer.in_features, layer.out_features, rows, dtype) for layer in _linear_layers(module))


def is_network_uneven(trial: TrialConfig) -> bool:
    """Returns whether a trial's network has uneven layers."""
    return has_uneven_layers(build(trial, *tasks.shape(trial)), trial)


def even_out(module: nn.Module, config: TrialConfig) -> None:
    """Makes the linear layers of an MLP, or of a user's network, EvenLinear where any is uneven.

    All layers change, because a gradient cut out of a padded gradient would change the rounding of other sums.
    """
    if (config.model.family == "mlp" or config.model.family not in FAMILIES) and has_uneven_layers(module, config):
        for layer in _linear_layers(module):
            layer.__class__ = EvenLinear  # the same parameters under the same names, in place


def _linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if type(layer) is nn.Linear]


def speed_up_narrow_layers(module: nn.Module) -> nn.Module:
    """Makes linear layers with few outputs NarrowLinear, in place; returns the module."""
    for layer in module.modules():
        if type(layer) is nn.Linear and layer.out_features < NARROW:
            layer.__class__ = NarrowLinear  # the same parameters under the same names, in place
    return module


def use_kernels(module: nn.Module) -> None:
    """Runs a single member's recurrent layers by the library's kernels."""
    if isinstance(module, Recurrent):
        module.library = True


def build(config: TrialConfig, input_dim: int, classes: int) -> nn.Module:
    """Returns the module of one member, with first weights from its `init` stream, in the trial's dtype.

    A family given as an import path is called as `Class(config.model, input_dim, classes)`; its forward takes
    inputs [B, D] and returns logits [B, K]. If it also takes `hidden`, it supports dropout and noise on hidden units.
    A class with a parameter `own` is given the trial's own hyperparameters; those in `members` are scalar tensors.
    Raises ConfigError where sizes do not fit each other, regularization of hidden units is not supported, or the first
    weights can't be constructed.
    """
    model, family = config.model, config.model.family
    if problems := sizes.problems(model):
        raise ConfigError(problems)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also record a stack for each missing kind of device: 150 us and more
        torch.default_generator.manual_seed(key(config.stream_seed("init"), "init"))
        module: nn.Module
        if family in SEQUENCE_MODELS:
            module = SEQUENCE_MODELS[family](model, tasks.form(config), config.optimizer.truncation)
        elif family == "cnn":
            module = CNN(model, tasks.image_of(config), classes)
        elif family == "resnet":
            module = ResNet(model, tasks.image_of(config), classes, ACTIVATIONS[model.activation])
        else:
            module = (MLP if family == "mlp" else bound(imported(family), member_fields.of_trial(config)))(
                model, input_dim, classes
            )
        _initialize(module, model)
    if model.family in FAMILIES:
        parametrization.scale_first_weights(module, model)
    regularization = config.regularization
    if (regularization.dropout or regularization.hidden_noise) and not takes_hidden(module):
        raise ConfigError(
            [f"model.family = {config.model.family!r}: regularization of hidden units needs forward(inputs, hidden)."]
        )
    module = module.to(dtype(config))
    if model.family in FAMILIES and autocast(config):
        for layer in filter(is_normalization, module.modules()):
            layer.register_forward_pre_hook(in_single_precision)
    if isinstance(module, MLP) and model.initialization == "memorizer":
        _memorize(module, config, classes)
    if isinstance(module, MLP) and model.initialization == "interpolating":
        _interpolate(module, config, classes)
    if isinstance(module, MLP):
        for part in chain(module.layers[: model.frozen_layers], module.norms[: model.frozen_layers]):
            part.requires_grad_(False)
    if model.perturbation:
        _perturb(module, model.perturbation, generator(config.stream_seed("init"), "init/perturbation"))
    return module


def dtype(config: TrialConfig) -> torch.dtype:
    """Returns the precision of a trial's weights and activations."""
    return torch.float64 if config.compute.dtype == "float64" else torch.float32


def autocast(config: TrialConfig) -> torch.dtype | None:
    """Returns the precision of a network's products under torch.autocast; None: without autocast."""
    return torch.bfloat16 if config.compute.autocast == "bfloat16" else None


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters that training changes, by name; requires_grad_(False) excludes a parameter."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def frozen(module: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters that training does not change, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if not parameter.requires_grad}


def has_aliases(module: nn.Module) -> bool:
    """Returns whether a sub-module has several names."""
    names = list(module.named_modules(remove_duplicate=False))
    return len({id(part) for _, part in names}) < len(names)


def places(module: nn.Module) -> tuple[tuple[str, str], ...]:
    """Returns each place of a parameter or buffer with its name in `named_parameters` or `named_buffers`."""
    names = {id(value): name for name, value in chain(module.named_parameters(), module.named_buffers())}
    return tuple(
        (f"{path}.{leaf}" if path else leaf, names[id(value)])
        for path, part in module.named_modules()
        for leaf, value in chain(part.named_parameters(recurse=False), part.named_buffers(recurse=False))
    )


def frozen_names(trial: TrialConfig) -> list[str]:
    """Returns the names of the frozen parameters of a trial's network."""
    return list(frozen(build(trial, *tasks.shape(trial))))


def takes_hidden(module: nn.Module) -> bool:
    """Returns whether the module's forward takes `hidden`."""
    return "hidden" in inspect.signature(module.forward).parameters


def _initialize(module: nn.Module, model: Model) -> None:
    """Overwrites weight matrices and zeroes biases, unless the module keeps its own initialization."""
    if model.initialization in ("default", "memorizer", "interpolating"):
        return
    for name, parameter in trained(module).items():
        if parameter.dim() < 2:
            if name.endswith("bias"):  # other vectors are scales of normalizations, which begin at one
                nn.init.zeros_(parameter)
        elif model.initialization == "he":
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        elif model.initialization == "glorot":
            nn.init.xavier_normal_(parameter)
        else:
            nn.init.orthogonal_(parameter)


def _memorize(module: MLP, config: TrialConfig, classes: int) -> None:
    """Sets weights that memorize the trial's training labels, computed in float64; unused units are zero."""
    data, rng = tasks.load(config), generator(config.stream_seed("init"), "init/memorizer")
    construct = memorizer.in_general_position if config.model.depth == 1 else memorizer.classifier
    try:
        layers = construct(data.inputs.astype(np.float64), data.labels, classes, rng)
    except memorizer.TiesError as error:
        raise ConfigError([f"model.initialization = 'memorizer': {error}"]) from error
    width, needed = config.model.width, max(len(bias) for _, bias in layers[:-1])
    if width < needed:
        raise ConfigError([f"model.width = {width}: model.initialization 'memorizer' needs {needed} here."])
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), chain(*layers), strict=True):
            parameter.zero_()[tuple(map(slice, value.shape))] = torch.from_numpy(value)


def _interpolate(module: MLP, config: TrialConfig, classes: int) -> None:
    """Sets the least-norm read-out that is one-hot on the trial's training labels; other layers are unchanged."""
    data = tasks.load(config)
    exact, read = copy.deepcopy(module).double(), []
    exact.layers[-1].register_forward_pre_hook(lambda _layer, inputs: read.append(inputs[0]))
    with torch.no_grad():
        exact(torch.from_numpy(data.inputs.astype(np.float64)))
    features = np.hstack([read[0].numpy(), np.ones((len(data.inputs), 1))])
    one_hot = np.eye(classes)[data.labels]
    solution, _, rank, _ = np.linalg.lstsq(features, one_hot, rcond=None)
    if rank < len(features):
        raise ConfigError(
            [
                f"model.width = {config.model.width}: model.initialization 'interpolating' needs {len(features)} "
                f"independent units for as many training examples, of which there are {rank} here."
            ]
        )
    with torch.no_grad():
        for parameter, value in zip(module.layers[-1].parameters(), (solution[:-1].T, solution[-1]), strict=True):
            parameter.copy_(torch.from_numpy(value))


def _perturb(module: nn.Module, norm: float, rng: np.random.Generator) -> None:
    """Moves all trained parameters together by a step of this L2 norm in a uniformly random direction."""
    parameters = list(trained(module).values())
    steps = [rng.standard_normal(tuple(parameter.shape)) for parameter in parameters]
    length = np.sqrt(sum(float(np.square(step).sum()) for step in steps))
    with torch.no_grad():
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.add_(torch.from_numpy(step * (norm / length)).to(parameter.dtype))
