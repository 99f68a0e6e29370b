"""Maximal update parametrization (muP): per-layer first weights and rates that keep training alike at every width.

Yang and Hu (2021); the factors are those of table 3 of Yang et al. (2022, "Tensor Programs V"), relative to the width
`model.base_width`, at which muP is the standard parametrization. For an MLP and a transformer.
"""

from __future__ import annotations

import torch
from torch import nn

from memsweep.spec.fields.groups import Model
from memsweep.spec.options import ADAM_LIKE

INPUT, HIDDEN, OUTPUT, VECTOR_OF_OUTPUTS = "input", "hidden", "output", "bias of outputs"
"""Parts of a network: sizes that grow with the width are an input's outputs, both sides of a hidden matrix, and an
output's inputs. Vectors of hidden units count as inputs."""


def ratio(model: Model) -> float:
    """Returns the width relative to the base width; 1 for the standard parametrization."""
    return model.width / model.base_width if model.parametrization == "mup" else 1.0


def scale_first_weights(module: nn.Module, model: Model) -> None:
    """Scales standard first weights, in place, to variances of 1 / fan_in, in the output 1 / fan_in^2."""
    width = ratio(model)
    is_constant = model.family == "transformer"  # whose standard first weights have one deviation at every width
    factors = {HIDDEN: width**-0.5 if is_constant else 1.0, OUTPUT: 1 / width if is_constant else width**-0.5}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if (factor := factors.get(_part(model, name, parameter.dim()), 1.0)) != 1.0:
                parameter.mul_(factor)


def attention_scale(model: Model) -> float:
    """Returns the factor of queries times keys: 1 / sqrt(d), with muP proportional to 1 / d.  d: units of a head."""
    scale: float = (model.width // model.heads) ** -0.5 * ratio(model) ** -0.5
    return scale


def rate_factors(module: nn.Module, model: Model, optimizer: str) -> dict[str, float]:
    """Returns parameter name -> factor of its learning rate; empty where all are 1."""
    width = ratio(model)
    if width == 1.0:
        return {}
    factors = {HIDDEN: 1.0, OUTPUT: 1 / width, INPUT: width, VECTOR_OF_OUTPUTS: 1.0}
    if optimizer in ADAM_LIKE:
        factors |= {HIDDEN: 1 / width, INPUT: 1.0}
    return {name: factors[_part(model, name, value.dim())] for name, value in module.named_parameters()}


def _part(model: Model, name: str, dim: int) -> str:
    """The part of the network that a parameter belongs to."""
    if name.startswith(("readout.", f"layers.{model.depth}.")):
        return OUTPUT if dim > 1 else VECTOR_OF_OUTPUTS
    is_hidden = dim > 1 and not name.startswith(("enter.", "position", "layers.0."))
    return HIDDEN if is_hidden else INPUT
