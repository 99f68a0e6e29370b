"""Estimates the time that compiling saves of a step, from its time uncompiled and what was measured before."""

SAVED_SECONDS, SAVED_SHARE = 45e-6, 0.16
"""Time that compiling saves of a member step with its share of evaluation on one CPU core: 57 us of 120 at width 32,
505 of 4,217 at width 512, where the step alone takes 78 and 2,905 us."""
SAVED_UNMEASURED = 50e-6
STARTS_SECONDS, STARTS_SHARE = 2.7e-3, 0.8
"""Time that compiling saves of a step of a whole pack on a GPU, where starting kernels is what takes the time, and its
share of that step: 3.36 ms become 0.60 with 64 members of width 32, and 3.29 become 0.66 with 512."""


def saved_seconds(seconds: float | None, device: str = "cpu", members: int = 1) -> float:
    """Returns the seconds that compiling saves of a member step.

    seconds: of the step uncompiled; None: not measured.  members: of the pack, which share what a GPU saves.
    """
    if device == "cuda":
        starts = STARTS_SECONDS / members
        return starts if seconds is None else min(starts, STARTS_SHARE * seconds)
    return SAVED_UNMEASURED if seconds is None else min(SAVED_SECONDS + SAVED_SHARE * seconds, seconds / 2)
