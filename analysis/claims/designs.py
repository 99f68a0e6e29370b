"""Number of designs that each sweep has had, and the rate of wrong verdicts that its claims may have."""

from __future__ import annotations

from memsweep.analysis.claims.claim import Claim

ALPHA = 0.05
"""Rate of wrong verdicts within a paper, of each kind, over all designs of its claims."""

DESIGNS = {
    "adversarial_training": 3,
    "critical_samples": 3,
    "largest_set": 3,
    "learning_curves": 2,
    "learning_order": 2,
    "memorizer_width": 3,
    "noise_capacity": 3,
    "permutation": 2,
    "regularization": 2,
    "sequence_ablation": 2,
    "sequence_capacity": 2,
    "sgd_near_memorizer": 2,
    "similarity": 3,
}
"""Sweep -> designs, the present one included. Results of each former design had been seen when the sweep, or a test of
a claim on it, was changed; each design has seeds of its own. Other sweeps have had one."""


def level(claim: Claim) -> float:
    """Returns the rate of wrong verdicts of a claim: ALPHA over the number of designs of its sweep with most designs.

    A claim that was tested in two designs had two chances of a wrong verdict, of which each may use half.
    """
    return ALPHA / max((DESIGNS.get(sweep, 1) for sweep in claim.sweeps), default=1)
