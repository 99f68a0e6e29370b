"""Schedules are those of torch.optim.lr_scheduler where it has them, else what their formula says."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from memsweep.engine.door import problems
from memsweep.engine.train import trainer
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack, program_key
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import ConfigError, TrialConfig
from memsweep.spec.fields.schedules import depends_on_budget, is_own, schedule_factor
from tests.cases import trial as small

BATCH, EXAMPLES, STEPS = 20, 90, 18
"""Four epochs of 4.5 steps."""


def factors(schedule, steps=STEPS, batch=BATCH, examples=EXAMPLES):
    return [schedule_factor(schedule, step, steps, batch, examples) for step in range(steps)]


def of_torch(*schedulers, milestones=(), steps=STEPS):
    """Factors of a rate of 1 under torch's schedulers, one after another; each is made from its optimizer."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    made = [scheduler(optimizer) for scheduler in schedulers]
    schedule = lr_scheduler.SequentialLR(optimizer, made, list(milestones)) if milestones else made[0]
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def warmup(steps):
    return lambda optimizer: lr_scheduler.LinearLR(optimizer, 1 / steps, total_iters=steps - 1)


def cosine(steps):
    return lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, steps)


AS_TORCH = {
    "cosine": lambda: of_torch(cosine(STEPS)),
    "warmup:1+cosine": lambda: of_torch(warmup(4), cosine(STEPS - 4), milestones=[4]),  # 4.5 steps, to the even
    "warmup:2+constant": lambda: of_torch(warmup(9)),
    "one_cycle": lambda: of_torch(
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 1.0, STEPS, cycle_momentum=False)
    ),
    "step:1:0.5": lambda: of_torch(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [5, 9, 14], 0.5)),
}


@pytest.mark.parametrize("schedule", AS_TORCH)
def test_it_is_torchs(schedule):
    assert factors(schedule) == pytest.approx(AS_TORCH[schedule](), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 1000])
def test_one_cycle_is_torchs_at_every_length(steps):
    if steps == 1:
        assert factors("one_cycle", steps) == [1.0]  # torch divides by zero
    else:
        torchs = of_torch(lambda o: lr_scheduler.OneCycleLR(o, 1.0, steps, cycle_momentum=False), steps=steps)
        assert factors("one_cycle", steps) == pytest.approx(torchs, abs=1e-12)


def test_the_inverse_square_root_is_vaswanis():
    """min(n^-0.5, n W^-1.5) of step n = 1, 2, ..., times W^0.5, so that the largest factor is 1."""
    w = 8
    formula = [min(n**-0.5, n * w**-1.5) * w**0.5 for n in range(1, 41)]
    assert factors("warmup:2+inverse_sqrt", 40, batch=5, examples=20) == pytest.approx(formula)
    assert factors("inverse_sqrt", 4) == pytest.approx([1, 1 / math.sqrt(2), 1 / math.sqrt(3), 0.5])


@pytest.mark.parametrize(
    "schedule, step, factor",
    [
        ("constant", 99, 1),
        ("step:2:0.5", 8, 1),
        ("step:2:0.5", 9, 0.5),
        ("step:2:0.5", 23, 0.25),
        ("step:1:1e-1", 5, 0.1),
    ],
)
def test_a_step_schedule_multiplies_at_whole_epochs(schedule, step, factor):
    assert schedule_factor(schedule, step, 100, BATCH, EXAMPLES) == factor


def test_a_schedule_within_its_warm_up_never_reaches_its_rate():
    assert factors("warmup:40+cosine", 4) == pytest.approx([(t + 1) / 180 for t in range(4)])


def test_a_trial_counts_its_whole_budget():
    trial = TrialConfig.of({"optimizer.schedule": "cosine", "optimizer.epochs": 2, "data.examples": 100})
    assert [trial.rate_factor(step) for step in range(trial.budget)] == pytest.approx([1, 0.5])
    assert depends_on_budget("warmup:1+cosine") and not depends_on_budget("step:1:0.5")


# A user's schedule.


def halved(step, steps):
    return 0.5 if step < steps / 2 else 0.25


def endless(step, steps):
    return math.inf if step else 1.0


def negative(step, steps):
    return -1


def late(step, steps):
    """Wrong where the launch does not try it."""
    return None if step == 5 else 1.0


def here(function):
    return f"tests.test_schedules:{function.__name__}"


def test_a_users_schedule_multiplies_the_rate():
    trial = small(optimizer__schedule=here(halved))
    assert [trial.rate_factor(step) for step in range(trial.budget)] == [0.5] * 9 + [0.25] * 9
    assert trial.imports == (here(halved),) and is_own(here(halved)) and depends_on_budget(here(halved))
    assert (
        not is_own("step:2:0.5")
        and not is_own("warmup:1+cosine")
        and small(optimizer__schedule="step:2:0.5").imports == ()
    )
    program = trainer.compose([trial, small()])
    rates = trainer.learning_rates(program, trainer.init(program, [trial, small()]), 18)
    assert rates[:, 0].tolist() == pytest.approx([0.05] * 9 + [0.025] * 9) and rates[:, 1].tolist() == pytest.approx(
        [0.1] * 18
    )
    assert program_key(trial) == program_key(small())  # a vector over members


@pytest.mark.parametrize(
    ("function", "words"), [(endless, "returns inf at step 9 of 18"), (negative, "returns -1 at step 0")]
)
def test_a_users_schedule_that_returns_no_factor_is_refused(function, words):
    (problem,) = problems(small(optimizer__schedule=here(function)))
    assert problem.startswith(f"optimizer.schedule = {here(function)!r}: {words}")
    assert "must return a finite number of 0 or more" in problem
    assert problems(small("own schedule")) == []


def test_a_users_schedule_that_fails_later_ends_its_own_trials_alone(tmp_path):
    wrong, right = small(optimizer__schedule=here(late)), small(seed=1)
    assert problems(wrong) == []
    with pytest.raises(ConfigError, match="returns None at step 5 of 18"):
        wrong.rate_factor(5)
    store = Store(tmp_path / "results", create=True)
    list(run_pack(Pack((wrong, right), 2), store))
    rows = store.trial_rows([wrong.trial_id, right.trial_id])
    assert rows[right.trial_id]["status"] == "finished" and rows[wrong.trial_id]["status"] == "failed"
    assert "returns None at step 5 of 18" in rows[wrong.trial_id]["cause"]
