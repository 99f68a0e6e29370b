"""Optimizers of a user's: torch's own classes and derived ones, to the bit as in plain torch, from checkpoints too."""

import pytest
import torch
from torch import nn

from memsweep.data import tasks
from memsweep.engine.door import problems
from memsweep.engine.nn import models
from memsweep.engine.train import plain, trainer
from memsweep.engine.train.comparison import alone, program_deviation, weights_fingerprint
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack, program_key
from memsweep.run.policy.calibration import calibrate, lift_problem
from memsweep.run.policy.execution_plan import choose, remarks
from memsweep.run.worker.execution import run_pack
from tests.cases import trial


def here(kind):
    return f"tests.test_own_optimizers:{kind.__name__}"


def of(name, **fields):
    return trial(optimizer__name=name, optimizer__learning_rate=0.01, **fields)


def by_hand(config, make, schedule=lambda step: 1.0):
    """The weights after a loop that uses torch alone, but for the order of examples."""
    program = trainer.compose([config])
    order = trainer.batches(program, trainer.init(program, [config]), config.budget)[:, 0]
    model, data = models.build(config, program.input_dim, program.classes).train(), tasks.load(config)
    optimizer, inputs, labels = make(model.parameters()), torch.tensor(data.inputs), torch.tensor(data.labels)
    for step in range(config.budget):
        optimizer.param_groups[0]["lr"] = 0.01 * schedule(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[order[step]]), labels[order[step]]).backward()
        optimizer.step()
    return dict(model.named_parameters())


@pytest.mark.parametrize(
    ("name", "fields", "make"),
    [
        (
            "RMSprop",
            {"optimizer__momentum": 0.5, "optimizer__alpha": 0.9, "own__centered": True},
            lambda weights: torch.optim.RMSprop(weights, 0.01, alpha=0.9, momentum=0.5, centered=True),
        ),
        (
            "Adagrad",
            {"regularization__weight_decay": 0.1, "own__initial_accumulator_value": 0.5, "own__unread": 3},
            lambda weights: torch.optim.Adagrad(weights, 0.01, weight_decay=0.1, initial_accumulator_value=0.5),
        ),
        (
            "AdamW",
            {"optimizer__betas": (0.8, 0.9)},
            lambda weights: torch.optim.AdamW(weights, 0.01, (0.8, 0.9), weight_decay=0),
        ),
    ],
)
def test_classes_of_torch_give_the_bits_of_a_loop_in_torch(name, fields, make):
    trials = [of(f"torch.optim:{name}", seed=seed, **fields) for seed in range(3)]
    program = trainer.compose(trials)
    assert program.mode == "serial"
    state = trainer.init(program, trials)
    for _ in range(4):
        state, _ = trainer.advance(program, state, trainer.steps_to_measurement(state))
    for m, one in enumerate(trials):
        expected = by_hand(one, make)
        assert expected.keys() == state.parameters.keys()
        assert all(torch.equal(value, state.parameters[key][m]) for key, value in expected.items())


def test_the_rate_follows_the_schedule():
    one = of("torch.optim:RMSprop", optimizer__schedule="cosine", optimizer__alpha=0.99)
    expected = by_hand(one, lambda weights: torch.optim.RMSprop(weights, 0.01), one.rate_factor)
    found = alone(one, trainer.compose([one])).state.parameters
    assert all(torch.equal(value, found[key][0]) for key, value in expected.items())


def test_packs_are_exact_and_split_by_class_and_own_fields():
    first = of("tests.cases:Signs", seed=0, own__noise=0.1)
    trials = [first, *(of("tests.cases:Signs", seed=seed, own__noise=0.1) for seed in (1, 2))]
    program = trainer.compose(trials)
    state = trainer.init(program, trials)
    assert program_deviation(program, state) == 0
    assert all(not member.optimizer.optimizer.state for member in state.members)  # tried with copies
    one = alone(trials[1], program).state
    while len(state.members) and state.step[0] < first.budget:
        state, _ = trainer.advance(program, state, trainer.steps_to_measurement(state))
    assert weights_fingerprint(state, 1) == weights_fingerprint(one, 0)
    model, _ = plain.train(trials[1], first.budget)
    assert all(torch.equal(value, one.parameters[key][0]) for key, value in model.named_parameters())
    others = (of("torch.optim:SGD", own__noise=0.1), of("tests.cases:Signs", own__noise=0.2))
    assert len({program_key(t) for t in (first, *others)}) == 3
    assert first.imports == ("tests.cases:Signs",)


def test_members_run_in_turn_and_the_launch_says_why():
    trials = [of("torch.optim:NAdam", seed=seed) for seed in range(3)]
    chosen = choose(trials, None, "cpu", 1, compiling=True)
    (choice,) = chosen.values()
    assert (choice.mode, choice.compiled) == ("serial", False)
    (sentence,) = remarks(chosen)
    assert (
        "members run in turn" in sentence and "optimizer.name = 'torch.optim:NAdam' is one object a member" in sentence
    )


@pytest.mark.parametrize("name", ["torch.optim:NAdam", "tests.cases:Signs"])
def test_a_pack_that_was_interrupted_gives_the_bits_of_one_that_was_not(name, tmp_path):
    fields = {"optimizer__momentum": 0.9, "own__noise": 0.1} if name.endswith("Signs") else {}
    trials = [of(name, seed=seed, optimizer__epochs=6, **fields) for seed in range(3)]
    whole, cut = (Store(tmp_path / folder, create=True) for folder in ("whole", "cut"))
    pack = Pack(tuple(trials), 2, mode="serial")
    list(run_pack(pack, whole))
    interrupted = run_pack(pack, cut)
    for _ in range(3):
        next(interrupted)
    interrupted.close()
    assert cut.results.joinpath("checkpoints").exists()
    assert {row["status"] for row in cut.trials(["status"]).to_pylist()} == {"interrupted"}
    list(run_pack(pack, cut))
    rows = [{r["trial_id"]: r["weights_fingerprint"] for r in s.trials().to_pylist()} for s in (whole, cut)]
    assert rows[0] == rows[1] and len(rows[0]) == 3 and all(rows[0].values())
    (resumed,) = [row for row in cut.read("packs").to_pylist() if row["settled_count"] == 3]
    assert resumed["cause"] is None and resumed["member_step_count"] < sum(t.budget for t in trials)


def test_an_optimizer_that_raises_ends_its_own_trials_alone(tmp_path):
    store = Store(tmp_path / "results", create=True)
    trials = [of(here(Fragile), seed=seed) for seed in range(3)]
    list(run_pack(Pack(tuple(trials), 3, mode="serial"), store))
    rows = store.trial_rows([t.trial_id for t in trials])
    assert all(row["status"] in ("failed", "finished") for row in rows.values())
    failed = [row for row in rows.values() if row["status"] == "failed"]
    assert failed and len(failed) < 3 and "ValueError: steep" in failed[0]["cause"]


# The door


class Fragile(torch.optim.SGD):
    """Fails for the trial whose first gradient has a positive sum."""

    @torch.no_grad()
    def step(self):
        if not self.param_groups[0].get("tried") and sum(w.grad.sum() for w in self.param_groups[0]["params"]) < 0:
            raise ValueError("steep")
        self.param_groups[0]["tried"] = True
        super().step()


class Counting(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.count = 0

    def step(self):
        self.count += 1
        super().step()


class Keeping(torch.optim.SGD):
    def step(self):
        super().step()
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["device"] = Keeping


class Flat(torch.optim.Optimizer):
    """Has no learning rate."""

    def __init__(self, params):
        super().__init__(params, {})

    @torch.no_grad()
    def step(self):
        for weight in self.param_groups[0]["params"]:
            weight.sub_(weight.grad.sign() / 1000)


def make(params):
    return torch.optim.SGD(params)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("torch.optim:LBFGS", {}, "its step needs a closure, which computes the loss several times in one step"),
        (here(make), {}, "is no subclass of torch.optim.Optimizer"),
        ("torch.optim:Adagrad", {"optimizer__momentum": 0.9}, "the constructor of Adagrad has no parameter momentum"),
        (
            "tests.cases:Signs",
            {"regularization__weight_decay": 0.1},
            "the constructor of Signs has no parameter weight",
        ),
        (
            here(Flat),
            {"optimizer__schedule": "cosine"},
            "the constructor of Flat has no parameter lr; set optimizer.sch",
        ),
        (here(Counting), {}, "its step changes count, which a checkpoint does not hold"),
        (here(Keeping), {}, "its state holds objects that a checkpoint can't hold"),
    ],
)
def test_optimizers_that_do_not_fit_are_refused(name, fields, words):
    (problem,) = problems(of(name, **fields))
    assert words in problem


@pytest.mark.parametrize(
    "name", ["torch.optim:NAdam", "torch.optim:ASGD", "tests.cases:Signs", here(Flat), here(Fragile)]
)
def test_optimizers_that_fit_are_let_in(name):
    assert problems(of(name)) == []


# Pairs of functions


def begin(parameters):
    return {name: torch.zeros_like(value) for name, value in parameters.items()}


def descend(gradients, state, parameters, rate):
    state = {name: 0.9 * state[name] + gradients[name] for name in state}
    return {name: value - rate * state[name] for name, value in parameters.items()}, state


def looking(gradients, state, parameters, rate):
    largest = max(float(value.abs().max()) for value in gradients.values())  # this line
    return descend(gradients, state, parameters, rate / largest)


def one_result(gradients, state, parameters, rate):
    return parameters


def flattened(gradients, state, parameters, rate):
    return {name: value.flatten() for name, value in parameters.items()}, state


def growing(gradients, state, parameters, rate):
    return parameters, state | {"more": rate}


MOMENTUM, LOOKING = (begin, descend), (begin, looking)
ONE_RESULT, FLATTENED, GROWING, TRIPLE = (begin, one_result), (begin, flattened), (begin, growing), (begin,) * 3


def named(name, **fields):
    return of(f"tests.test_own_optimizers:{name}", **fields)


@pytest.mark.parametrize("mode", ["fused", "serial"])
def test_a_pair_gives_the_numbers_of_torch_whatever_the_company(mode):
    trials = [named("MOMENTUM", seed=seed, compute__dtype="float64") for seed in range(3)]
    program = trainer.compose(trials, mode=mode)
    assert program.mode == mode
    state = trainer.init(program, trials)
    assert program_deviation(program, state) == 0
    for _ in range(4):
        state, _ = trainer.advance(program, state, trainer.steps_to_measurement(state))
    for m, one in enumerate(trials):
        assert weights_fingerprint(state, m) == weights_fingerprint(alone(one, program).state, 0)
        momentum = one.with_fields({"optimizer.name": "sgd", "optimizer.momentum": 0.9})
        expected, _ = plain.train(momentum, one.budget)
        for name, value in expected.named_parameters():
            torch.testing.assert_close(state.parameters[name][m], value, rtol=0, atol=1e-12)


def test_a_pair_that_cannot_be_fused_runs_in_turn_and_its_line_is_named():
    trials = [named("LOOKING", seed=seed) for seed in range(3)]
    assert "for value in gradients.values())  # this line" in lift_problem(trials, "cpu")
    chosen = choose(trials, None, "cpu", 1, calibrate=lambda groups, device: [calibrate(g, device) for g in groups])
    assert [choice.mode for choice in chosen.values()] == ["serial"] and "# this line" in remarks(chosen)[0]
    fused = choose([named("MOMENTUM", seed=s) for s in range(3)], None, "cpu", 1)
    assert [choice.mode for choice in fused.values()] == ["fused"]


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("TRIPLE", {}, "is a tuple, but not of two functions"),
        ("ONE_RESULT", {}, "update returns dict; must return (parameters, state)."),
        ("FLATTENED", {}, "update returns other parameters than it is given"),
        ("GROWING", {}, "with the same names and shapes at each step"),
        ("MOMENTUM", {"optimizer__momentum": 0.9}, "optimizer.momentum = 0.9: a pair of functions is given only the"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(name, fields, words):
    (problem,) = problems(named(name, **fields))
    assert words in problem
    assert problems(named("MOMENTUM")) == []
