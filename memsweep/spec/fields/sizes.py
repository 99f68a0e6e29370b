"""Rules between sizes of a network, which need exact values; the table of rules treats large numbers alike."""

from __future__ import annotations

from memsweep.spec.fields.groups import Model


def problems(model: Model) -> list[str]:
    """Returns one sentence per size that does not fit the others."""
    sentences = []
    if model.family == "transformer" and model.width % model.heads:
        sentences.append(
            f"model.width = {model.width}, model.heads = {model.heads}: heads share the units equally; set model.heads "
            "to a divisor of model.width."
        )
    if model.family == "mlp" and model.frozen_layers > model.depth:
        sentences.append(
            f"model.depth = {model.depth}, model.frozen_layers = {model.frozen_layers}: only hidden layers can be "
            "frozen; set model.frozen_layers to model.depth or less."
        )
    return sentences
