"""Networks for one member, as ordinary modules, and their first weights. The trainer lifts them over members."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from memsweep.config import ConfigError, Model, TrialConfig, imported
from memsweep.seeds import key

Hidden = Callable[[Tensor, int], Tensor]
"""What a regularizer does to hidden units: (activations, number of the layer) -> activations."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
}


def unchanged(activations: Tensor, _layer: int) -> Tensor:
    return activations


class MLP(nn.Module):
    """`depth` hidden layers of `width` units with one nonlinearity, then a linear read-out.

    forward: inputs [B, D] -> logits [B, K]; `hidden` is applied to the output of each hidden layer.
    """

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__()
        sizes = [input_dim, *[model.width] * model.depth, classes]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.activation = ACTIVATIONS[model.activation]

    def forward(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        h = inputs
        *hidden_layers, readout = self.layers
        for number, layer in enumerate(hidden_layers):
            h = hidden(self.activation(layer(h)), number)
        logits: Tensor = readout(h)
        return logits


def build(config: TrialConfig, input_dim: int, classes: int) -> nn.Module:
    """The module of one member, with first weights from its own `init` stream, in the trial's dtype.

    A family given as an import path is called as `Class(config.model, input_dim, classes)`; its forward takes
    inputs [B, D] and returns logits [B, K]. If it also takes `hidden`, dropout and noise on hidden units reach it.
    """
    constructor = MLP if config.model.family == "mlp" else imported(config.model.family)
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also record a stack for each kind of device that is not there: 150 us and more
        torch.default_generator.manual_seed(key(config.stream_seed("init"), "init"))
        module: nn.Module = constructor(config.model, input_dim, classes)
        _initialize(module, config.model)
    regularization = config.regularization
    if (regularization.dropout or regularization.hidden_noise) and not takes_hidden(module):
        raise ConfigError(
            [f"model.family = {config.model.family!r}: regularization of hidden units needs forward(inputs, hidden)."]
        )
    return module.to(torch.float64 if config.compute.dtype == "float64" else torch.float32)


def takes_hidden(module: nn.Module) -> bool:
    return "hidden" in inspect.signature(module.forward).parameters


def _initialize(module: nn.Module, model: Model) -> None:
    """Overwrites weight matrices and zeroes biases, unless the module's own initialization is wanted."""
    if model.initialization == "default":
        return
    for parameter in module.parameters():
        if parameter.dim() < 2:
            nn.init.zeros_(parameter)
        elif model.initialization == "he":
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        elif model.initialization == "glorot":
            nn.init.xavier_normal_(parameter)
        else:
            nn.init.orthogonal_(parameter)
