"""Schedules: factors of the learning rate over a training, `cosine` or `warmup:2+step:15:0.5`."""

from __future__ import annotations

import math
import re

from memsweep.spec.options import IMPORT_PATH

_NUMBER = r"\d*\.?\d+(?:e-?\d+)?"
SCHEDULE = re.compile(
    rf"(?:warmup:(?P<warmup>{_NUMBER})\+)?"
    rf"(?P<name>constant|cosine|inverse_sqrt|step:(?P<epochs>[1-9]\d*):(?P<factor>{_NUMBER}))|(?P<alone>one_cycle)"
)
ALLOWED = (
    "must be constant, cosine, inverse_sqrt or step:EPOCHS:FACTOR, each also after warmup:EPOCHS+, such as "
    "warmup:2+cosine, or one_cycle, or an import path such as my_lab.schedules:warm"
)
RISING_SHARE, FIRST_DIVISOR, LAST_DIVISOR = 0.3, 25.0, 1e4
"""Of one_cycle: share of the steps in which the rate rises, divisors of its first rate and, from there, of its last;
the defaults of `torch.optim.lr_scheduler.OneCycleLR`."""


def is_schedule(text: str) -> bool:
    """Returns whether a text names a schedule, of memsweep's or of the user's."""
    return SCHEDULE.fullmatch(text) is not None or is_own(text)


def is_own(text: str) -> bool:
    """Returns whether a text is the import path of a user's schedule; `step:2:0.5` is not."""
    return IMPORT_PATH.fullmatch(text) is not None


def depends_on_budget(schedule: str) -> bool:
    """Returns whether the factor of a step depends on the number of all steps."""
    return is_own(schedule) or "cosine" in schedule or schedule == "one_cycle"


def schedule_factor(schedule: str, step: int, steps: int, batch_size: int, examples: int) -> float:
    """Returns the factor of the learning rate at a step, of a schedule of memsweep's.

    step: from 0.  steps: of the whole training.  Epochs are counted in examples read: step * batch_size / examples.

    A warm-up of W steps, rounded, comes first: (t + 1) / W. The other schedules begin after it, of t = 0 to T - 1:
    cosine: (1 + cos(pi t / T)) / 2, as CosineAnnealingLR.  step:E:F: F^n after n times E epochs, as StepLR.
    one_cycle: OneCycleLR with its defaults, but without cycles of the momentum.
    inverse_sqrt: sqrt(max(1, W) / (t + 1)), with t from the start of the training (Vaswani et al. 2017, section 5.3,
    scaled to 1 at the end of the warm-up).
    """
    match = SCHEDULE.fullmatch(schedule)
    if match is None or schedule == "constant":
        return 1.0
    if match["alone"]:
        return _one_cycle(step, steps)
    warmup = round(float(match["warmup"] or 0) * examples / batch_size)
    if step < warmup:
        return (step + 1) / warmup
    if match["name"] == "inverse_sqrt":
        return math.sqrt(max(1, warmup) / (step + 1))
    step, steps = step - warmup, steps - warmup
    if match["name"] == "cosine":
        return (1 + math.cos(math.pi * step / steps)) / 2
    if match["epochs"]:
        return float(match["factor"]) ** (int(step * batch_size / examples) // int(match["epochs"]))
    return 1.0


def _one_cycle(step: int, steps: int) -> float:
    """Rises by a cosine to 1, then falls by a cosine."""
    first, last, top = 1 / FIRST_DIVISOR, 1 / FIRST_DIVISOR / LAST_DIVISOR, RISING_SHARE * steps - 1
    if step <= top:
        return _between(first, 1.0, step / top if top else 1.0)
    return _between(1.0, last, (step - top) / (steps - 1 - top)) if steps > 1 else 1.0


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
