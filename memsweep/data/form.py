"""The form of an example: its shape as a network reads it, step by step or at once."""

from __future__ import annotations

from typing import NamedTuple


class Form(NamedTuple):
    """The shape of an example as a network reads it."""

    steps: int = 0  # T; 0: no sequence
    features: int = 0  # m, numbers per step; with a vocabulary 1, the token
    vocabulary: int = 0  # number of input tokens (V); 0: inputs are numbers
    given_steps: int = 0  # first steps, which carry inputs; later steps are blank
    kind: str = "label"  # kind of answers: "label" (one per example), "tokens" or "values"
    positions: int = 1  # last steps that are read out (L)
    outputs: int = 0  # outputs per position (O): classes, tokens or numbers
    targets: int = 1  # answers of an example that count
    is_graded: bool = True  # answers are right or wrong; False: numbers of the user's, which are only near or far

    has_weights: bool = False  # losses of training examples are weighted

    @property
    def inputs(self) -> int:
        """Returns the number of inputs of an example (D)."""
        return self.given_steps * self.features
