"""Rules between sizes of a network, which need exact values; the table of rules treats large numbers alike."""

from __future__ import annotations

import math

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


def modular_rows(operation: str, modulus: int) -> int:
    """Returns the number of pairs of the task modular: p^2, for `divide` p times the numbers that have an inverse.

    >>> modular_rows("add", 31), modular_rows("divide", 31), modular_rows("divide", 10)
    (961, 930, 40)
    """
    if operation != "divide":
        return modulus**2
    return modulus * sum(math.gcd(number, modulus) == 1 for number in range(modulus))
