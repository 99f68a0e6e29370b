"""How a program is executed is chosen by what is measured and what that saves, once for a results folder."""

import json
import time

import pytest
import torch

from memsweep.engine.train import trainer
from memsweep.engine.train.comparison import program_deviation
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import CANNOT_BE_FUSED, program_name
from memsweep.run.policy import calibration, execution_plan
from memsweep.run.policy.calibration import calibrate, lift_problem
from memsweep.run.policy.execution_plan import COMPILE_SECONDS, ExecutionPlan, choose
from memsweep.run.policy.savings import SAVED_UNMEASURED, STARTS_SECONDS, saved_seconds
from memsweep.run.policy.timings import Calibration, Timing
from memsweep.spec import processors
from tests.cases import ended, trial

ENOUGH = round(COMPILE_SECONDS["new"] / SAVED_UNMEASURED)  # member steps of one worker that pay for compiling


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """One with a compiler, which has compiled nothing yet."""
    monkeypatch.setattr(execution_plan, "has_compiler", lambda: True)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, create=True)


def compiled(trials, store=None, device="cpu", workers=1, wish=None):
    return [choice.compiled for choice in choose(trials, store, device, workers, compiling=wish).values()]


def test_only_what_saves_more_than_it_costs_is_compiled():
    half = [trial(seed=seed, stop__steps=ENOUGH // 2 + 1) for seed in (0, 1)]
    assert compiled(half) == [True]
    assert compiled(half[:1]) == [False]
    assert compiled(half, workers=2) == [False]  # each compiles for itself
    assert compiled([half[0], trial(model__width=9, stop__steps=ENOUGH // 2 + 1)]) == [False, False]


def test_a_program_that_is_cached_pays_sooner():
    short = trial(stop__steps=ENOUGH // 2)
    execution_plan.note_cached(program_name(trial(model__width=9)))
    assert compiled([short]) == [False]
    execution_plan.note_cached(program_name(short))
    assert compiled([short]) == [True] and compiled([trial(stop__steps=10)]) == [False]


def test_a_search_within_the_step_makes_compiling_dearer():
    plain, searching = (program_name(trial(regularization__adversarial=weight)) for weight in (0.0, 0.5))
    assert execution_plan.compile_seconds(searching) == execution_plan.SEARCHING * execution_plan.compile_seconds(plain)


def test_machines_without_compiler_do_not_compile(monkeypatch):
    long = [trial(stop__steps=2 * ENOUGH)]
    monkeypatch.setattr(execution_plan, "has_compiler", lambda: False)
    assert compiled(long) == [False]
    told = execution_plan.remarks(choose([*long, trial(model__width=9, stop__steps=2 * ENOUGH)], None, "cpu", 1))
    assert told == [f"Programs run uncompiled: {execution_plan.NO_COMPILER}"]
    assert execution_plan.remarks(choose([trial()], None, "cpu", 1)) == []


# What is stored stays.


def test_a_stored_choice_is_kept_whatever_is_left(store):
    long, rest = [trial(stop__steps=2 * ENOUGH)], [trial(seed=1)]
    execution_plan.note(store, choose(long, store, "cpu", 1))
    assert compiled(rest) == [False] and compiled(rest, store) == [True]
    assert compiled(rest, store, wish=False) == [False]
    execution_plan.note(store, {"another": ExecutionPlan(mode="serial", slots=8, reason="my_lab.py, line 3")})
    assert set(store.programs()) == {program_name(long[0]), "another"}
    assert ExecutionPlan(**store.programs()["another"]).reason == "my_lab.py, line 3"


def test_choices_of_older_versions_are_understood(store):
    store.note_programs({program_name(trial()): {"compiled": True}})
    assert choose([trial()], store, "cpu", 1) == {program_name(trial()): ExecutionPlan(compiled=True)}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"colour": "red"}}'])
def test_a_broken_file_of_choices_is_told(store, text):
    (store.results / "programs.json").write_text(text)
    with pytest.raises(StoreError, match=r"programs\.json: .*\. Move the file away; the next launch writes a new one"):
        choose([trial()], store, "cpu", 1)


# What is measured decides.


def chosen(*timings, trials=None, problem="", workers=1, device="cpu", free=0, **how):
    """The choice where these (mode, members, microseconds, bytes a member) were measured."""
    measured = Calibration(tuple(Timing(m, n, us / 1e6, size) for m, n, us, size in timings), problem, free)
    trials = trials or [trial(seed=seed, stop__steps=10**6) for seed in range(100)]
    (choice,) = choose(trials, None, device, workers, calibrate=lambda programs, device: [measured], **how).values()
    return choice


def test_the_fastest_way_is_taken_and_the_smaller_where_it_is_as_fast():
    assert chosen(("serial", 2, 500, 1), ("fused", 8, 90, 1), ("fused", 32, 60, 1)).slots == 32
    assert chosen(("serial", 2, 500, 1), ("fused", 8, 60, 1), ("fused", 32, 59, 1)).slots == 8
    found = chosen(("serial", 2, 9000, 1), ("fused", 8, 20000, 1))
    assert (found.mode, found.compiled, found.slots) == ("serial", False, execution_plan.IN_TURN_SLOTS)


def test_what_compiling_saves_counts():
    """Uncompiled, members in turn would be a little faster; compiled, fused ones are."""
    ways = (("serial", 2, 900, 1), ("fused", 8, 1000, 1))
    found = chosen(*ways)
    assert (found.mode, found.compiled) == ("fused", True)
    short = images([trial(seed=seed, model__family="cnn", stop__steps=10) for seed in range(3)])
    assert chosen(*ways, trials=short).mode == "serial"


def images(trials):
    return [t.with_fields({"data.task": "mnist5k"}) for t in trials]


def test_packs_fit_into_memory(monkeypatch):
    monkeypatch.setattr(execution_plan.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert chosen(("fused", 8, 90, 10), ("fused", 32, 60, 10), workers=2).slots == 25
    assert chosen(("fused", 8, 90, 10**6)).slots == 1


def test_packs_fit_into_the_memory_that_is_allotted(monkeypatch):
    """Which may be less than the machine has free."""
    monkeypatch.setattr(processors, "memory_left", lambda: 1000)
    assert chosen(("fused", 8, 90, 10), ("fused", 32, 60, 10), workers=2).slots == 25


def test_a_gpu_compiles_where_starting_kernels_takes_the_time(monkeypatch):
    """As measured on an H200: 64 members of width 32 take 52.5 us a step and 9.4 compiled, 512 take 6.4 and 1.3."""
    monkeypatch.setattr(execution_plan, "WORTH_CALIBRATING_SECONDS", 0)
    on_gpu = {"device": "cuda", "free": 10**12}

    def is_compiled(members, microseconds, steps):
        trials = [trial(seed=seed, stop__steps=steps) for seed in range(members)]
        return chosen(("fused", members, microseconds, 1), trials=trials, **on_gpu).compiled

    enough = COMPILE_SECONDS["new"] / STARTS_SECONDS  # steps of a pack, whatever its size
    for members, microseconds, saved in ((64, 52.5, 43.1), (512, 6.43, 5.15)):
        assert saved_seconds(microseconds / 1e6, "cuda", members) == pytest.approx(saved / 1e6, rel=0.05)
        assert not is_compiled(members, microseconds, round(0.9 * enough))
        assert is_compiled(members, microseconds, round(1.1 * enough))
    # a short step saves only a share of its time, and a lone member as much as a pack
    assert not is_compiled(64, 10.0, round(1.1 * enough)) and is_compiled(1, 4000.0, round(1.1 * enough))


def test_what_a_gpu_compiled_is_not_taken_for_compiled_on_a_cpu():
    long = [trial(stop__steps=10**6)]
    assert compiled(long, device="cuda") == [True]  # not measured: as a step whose kernels take long to start
    costs = execution_plan.compile_seconds(execution_plan.variant(long))
    execution_plan.note_cached(execution_plan.variant(long, "cuda"))
    assert execution_plan.compile_seconds(execution_plan.variant(long)) == costs
    assert execution_plan.compile_seconds(execution_plan.variant(long, "cuda")) == COMPILE_SECONDS["cached"]


def test_workers_of_a_gpu_share_its_memory(monkeypatch):
    """The memory of the machine that launches, and the number of GPUs, do not count."""
    monkeypatch.setattr(processors, "memory_left", lambda: 1)
    timing = ("fused", 64, 60, 10)
    slots = [chosen(timing, workers=8, device="cuda", free=1000, workers_per_gpu=share).slots for share in (1, 4)]
    assert slots == [50, 12]


def test_only_what_takes_long_is_measured_first():
    asked = []

    def note(programs, device):
        asked.extend(programs)
        return [None] * len(programs)

    long = [trial(seed=seed, stop__steps=10**6) for seed in range(2)]
    cnn = images(
        [
            trial("cnn", seed=seed, data__label_scheme="task", data__classes=0, data__input_dim=0, data__task="mnist5k")
            for seed in range(2)
        ]
    )
    found = choose([*long, trial(model__width=9), *cnn], None, "cpu", 1, calibrate=note)
    assert asked == [long, cnn]
    assert [choice.mode for choice in found.values()] == ["fused", "fused", "serial"]


def test_packs_that_are_not_measured_fit_the_cache():
    slots = [choose([trial(model__width=width)], None, "cpu", 1).popitem()[1].slots for width in (8, 128, 1024)]
    assert slots == [64, 27, 8]


# Measuring itself.


class Branching(torch.nn.Linear):
    """Looks at its numbers: no program for many members at once."""

    def __init__(self, model, input_dim, classes):
        super().__init__(input_dim, classes)

    def forward(self, inputs):
        if inputs.mean() > 0:  # this line
            return super().forward(inputs)
        return -super().forward(inputs)


class Dropping(torch.nn.Linear):
    """Draws by a function that has no recording."""

    def __init__(self, model, input_dim, classes):
        super().__init__(input_dim, classes)

    def forward(self, inputs):
        return super().forward(inputs) * torch.bernoulli(torch.full_like(inputs[..., :1], 0.5))


class Broken(torch.nn.Linear):
    def __init__(self, model, input_dim, classes):
        super().__init__(input_dim, classes)

    def forward(self, inputs):
        raise RuntimeError("my own mistake")


class Reading(torch.nn.Module):
    """Reads an example in steps of eight by a layer of torch's, which vmap lifts inside a gradient alone."""

    kind = torch.nn.GRU

    def __init__(self, model, input_dim, classes):
        super().__init__()
        self.layer = self.kind(8, model.width, batch_first=True)
        self.readout = torch.nn.Linear(model.width, classes)

    def forward(self, inputs):
        return self.readout(self.layer(inputs.unflatten(-1, (-1, 8)))[0][:, -1])  # the layer's line


class ReadingLSTM(Reading):
    kind = torch.nn.LSTM


class ReadingRNN(Reading):
    kind = torch.nn.RNN


class Rounding(torch.nn.Linear):
    """Cannot be lifted in evaluation, by its own doing."""

    def __init__(self, model, input_dim, classes):
        super().__init__(input_dim, classes)

    def forward(self, inputs):
        logits = super().forward(inputs)
        return logits if self.training else logits / max(1.0, logits.abs().max().item())


def of(network, count=3):
    return [trial(seed=seed, model__family=f"tests.test_choices:{network.__name__}") for seed in range(count)]


def test_what_cannot_be_fused_is_told_with_its_line():
    problem = lift_problem(of(Branching), "cpu")
    assert "test_choices.py" in problem and "if inputs.mean() > 0:  # this line" in problem
    assert "data-dependent control flow" in problem
    assert "random" in lift_problem(of(Dropping), "cpu")
    assert lift_problem([trial(), trial(seed=1)], "cpu") == ""
    assert lift_problem(of(Broken), "cpu") == ""  # its pack fails and tells


@pytest.mark.parametrize("network", [Reading, ReadingLSTM, ReadingRNN, Rounding])
def test_liftability_is_tried_for_evaluation_too(network):
    problem = lift_problem(of(network), "cpu")
    assert "test_choices.py" in problem and ("layer's line" in problem or "logits.abs().max().item()" in problem)


def loud(parameters, inputs, logits):
    """A penalty that looks at its numbers."""
    return logits.sum() if logits.sum() > 0 else -logits.sum()


def test_liftability_is_tried_with_what_any_trial_of_the_program_has():
    """Here, the last one alone has a strength of the penalty that cannot be lifted."""
    fields = {"regularization__penalty": "tests.test_choices:loud"}
    trials = [trial(seed=seed, regularization__penalty_strength=0.1 * (seed == 4), **fields) for seed in range(5)]
    assert "if logits.sum() > 0" in lift_problem(trials, "cpu")


def loud_loss(logits, labels, inputs):
    """A loss that looks at its numbers."""
    return logits.square().mean(1) if logits.sum() > 0 else logits.abs().mean(1)  # the loss


def test_a_loss_that_cannot_be_fused_is_told_with_its_line_and_runs_in_turn():
    trials = [trial(seed=seed, optimizer__objective="tests.test_choices:loud_loss") for seed in range(3)]
    assert "if logits.sum() > 0 else logits.abs().mean(1)  # the loss" in lift_problem(trials, "cpu")
    (choice,) = choose(
        trials, None, "cpu", 1, calibrate=lambda groups, device: [calibrate(g, device) for g in groups]
    ).values()
    assert choice.mode == "serial" and "# the loss" in choice.reason


def test_calibration_tries_members_in_turn_and_more_and_more_at_a_time(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.01)
    monkeypatch.setattr(time, "process_time", time.perf_counter)  # as on a quiet machine
    found = calibrate([trial(seed=seed) for seed in range(20)], "cpu")
    assert [timing.mode for timing in found.timings][:2] == ["serial", "fused"]
    assert {timing.members for timing in found.timings if timing.mode == "fused"} <= {8, 20}
    assert found.best().mode == "fused"
    assert found.is_whole and 0 <= time.time() - found.measured_at < 60
    only = calibrate(of(Branching), "cpu")
    assert {timing.mode for timing in only.timings} == {"serial"} and only.lift_problem and not only.is_whole
    broken = calibrate(of(Broken), "cpu")
    assert broken.timings == () and not broken.is_whole
    short = calibrate([trial(seed=seed, stop__steps=1) for seed in range(3)], "cpu")
    assert short.timings and not short.is_whole  # a warm-up alone
    monkeypatch.setattr(time, "process_time", lambda: 0.8 * time.perf_counter())
    busy = calibrate([trial(seed=seed) for seed in range(3)], "cpu")
    assert busy.timings and not busy.is_whole


@pytest.mark.parametrize("failing", ["serial", "fused"])
def test_a_calibration_in_which_a_mode_failed_is_not_whole(monkeypatch, failing):
    timing = Timing("any", 2, 1e-4, 1, is_clean=True)
    monkeypatch.setattr(calibration, "_timed", lambda trials, mode, *_: () if mode == failing else (timing,))
    assert not calibrate([trial(seed=seed) for seed in range(3)], "cpu").is_whole


def test_a_module_that_cannot_be_fused_is_chosen_to_run_in_turn():
    (choice,) = choose(
        of(Dropping), None, "cpu", 1, calibrate=lambda programs, device: [calibrate(programs[0], device)]
    ).values()
    assert choice.mode == "serial" and "random" in choice.reason
    assert json.loads(json.dumps(choice.reason)) == choice.reason
    assert "they can't be fused" in execution_plan.remarks({program_name(of(Dropping)[0]): choice})[0]


# What packs found is kept.


def ran(store, trials, **row):
    """A pack of these trials, as a worker writes it."""
    store.write("trials", [ended(t.trial_id, attempt_id=str(row)) for t in trials])
    store.write("packs", [{"attempt_id": str(row), "mode": "fused", **row}])


def test_a_program_that_a_pack_could_not_fuse_runs_in_turn_from_then_on(store):
    """Also in folders of older versions, which hold `fused` for it."""
    trials = of(Reading)
    store.note_programs({program_name(trials[0]): {"mode": "fused", "compiled": False, "slots": 64}})
    line = "my_lab.py, line 3: self.layer(x) (Batching rule not implemented)"
    ran(store, trials, mode="serial", cause=f"out of memory; {CANNOT_BE_FUSED}{line}; another")
    (said,) = execution_plan.update(trials, store)
    assert said.endswith(f"members run in turn, because they can't be fused: {line}")
    kept = choose(trials, store, "cpu", 1)[program_name(trials[0])]
    assert (kept.mode, kept.slots, kept.reason) == ("serial", execution_plan.IN_TURN_SLOTS, line)
    assert execution_plan.update(trials, store) == []


@pytest.mark.parametrize(
    "found, exactness", [([0.0, None], "exact"), ([0.0, 3e-8], "3.0e-08"), ([None], ""), ([float("inf")], "inf")]
)
def test_exactness_is_stored_with_the_program(store, found, exactness):
    trials = [trial(seed=seed) for seed in range(len(found))]
    execution_plan.note(store, choose(trials, store, "cpu", 1))
    for own, number in zip(trials, found, strict=True):
        ran(store, [own], program_deviation=number, pack_id=own.trial_id)
    said = execution_plan.update(trials, store)
    assert choose(trials, store, "cpu", 1)[program_name(trials[0])].exactness == exactness
    sentence = "mlp 64-8-8-10 relu sgd batch=20 float32: a trial's numbers depend on the other members, by up to"
    assert [text.partition(" inf" if exactness == "inf" else " 3.0e-08")[0] for text in said] == (
        [] if exactness in ("", "exact") else [sentence]
    )


def test_a_pack_that_deviates_is_said_although_its_program_was_not_seen_to(store):
    ran(store, [trial()], program_deviation=0.0, deviation=1e-6)
    (said,) = execution_plan.update([trial(), trial(seed=1)], store)
    assert "depend on the other members, by up to 1.0e-06" in said
    assert execution_plan.update([trial(seed=1)], store) == []


@pytest.mark.parametrize(
    "family, is_exact", [("mlp", True), ("tests.cases:Scored", True), ("tests.cases:ByHand", False)]
)
def test_a_tiny_pack_shows_whether_products_depend_on_company(family, is_exact):
    trials = [trial(seed=seed, model__family=family) for seed in range(5)]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    before = {name: value.clone() for name, value in state.parameters.items()}
    found = program_deviation(program, state)
    assert (found == 0.0) == is_exact and found < 1e-4
    assert all(torch.equal(value, state.parameters[name]) for name, value in before.items())
    assert program_deviation(program, trainer.init(program, trials[:1])) is None
