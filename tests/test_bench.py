"""The benchmarks' own arithmetic, on numbers that can be checked by hand."""

import json

import pytest
import torch

from memsweep.data import tasks
from memsweep.engine.nn import models
from memsweep.engine.train import plain, trainer
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import OPTIMIZERS
from tests.bench import __main__ as bench
from tests.bench import (
    convolution,
    cost_a_trial,
    exactness,
    gpu,
    network_step,
    optimizer_step,
    scale,
    sequence_step,
    work,
)


def test_costs_of_a_straight_line_are_its_slope_and_flat():
    trials = [4, 1000, 2000, 5000]
    found = cost_a_trial.costs(trials, [12 + 0.01 * n for n in trials])
    assert [cost.trials for cost in found] == trials[1:]
    assert [cost.marginal for cost in found] == pytest.approx([0.01] * 3)
    assert [cost.overall for cost in found] == pytest.approx([0.01] * 3)
    assert cost_a_trial.large_spread(found) == pytest.approx(0)


def test_a_cost_that_grows_is_not_flat():
    trials = [4, 1000, 2000, 3000]
    found = cost_a_trial.costs(trials, [n**2 for n in trials])
    assert cost_a_trial.large_spread(found) == pytest.approx(5 / 3 - 1)
    assert cost_a_trial.large_spread(found[:2]) is None


def test_a_cost_below_zero_is_noise_and_not_flat():
    found = cost_a_trial.costs([4, 1000, 2000, 5000], [40.0, 35.0, 32.0, 97.0])
    assert cost_a_trial.large_spread(found) is None


def test_what_a_trial_more_costs_is_the_slope_between_two_sizes():
    rows = [_of_size(trials, 3 + 0.5 * trials) for trials in (10, 100, 1000)]
    assert scale.marginal(rows, lambda row: row.launch.seconds) == pytest.approx([0.5, 0.5])


def _of_size(trials, launch_seconds):
    fields = dict.fromkeys(scale.Size._fields, 0) | {"trials": trials}
    return scale.Size(**fields | {"launch": scale.Spent(launch_seconds, 0, 0, 0)})


def test_exactness_is_measured_with_every_optimizer():
    assert exactness.UPDATES.keys() == set(OPTIMIZERS)


def test_equal_numbers_do_not_deviate_and_zero_may_be_one_of_two():
    assert exactness.relative(0.0, 0.0) == 0
    assert exactness.relative(0.0, 2.0) == 1
    assert str(exactness.Deviation(0, 0)) == "exact"
    assert str(exactness.Deviation(0, 2e-7)) == "0 2e-07"


def test_targets_are_those_of_the_work_and_of_the_start():
    assert work.target_of("work A", "launch", "plain loop", cold=False) == 4
    assert work.target_of("work A", "launch", "plain loop", cold=True) == 3
    assert work.target_of("work A", "launch", "Ray Tune, reuse", cold=False) is None


def test_the_table_of_targets_is_made_of_the_raw_outputs(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RAW", tmp_path)
    rows = [{"case": "smoke", "earlier": [14.0, 11.0, 12.0], "now": [5.0, 8.0, 6.0]}]
    rows += [{"case": "query", "earlier": [38.0], "now": [4.0]}]
    told = json.dumps({"benchmark": "builds", "against": "3976d95", "rows": rows})
    (tmp_path / "builds.txt").write_text(f"a table\n{json.dumps({'benchmark': 'older'})}\n{told}\n")
    cold = {"benchmark": "cold", "sweep": "s", "target": 1.2, "cold": [30.0, 33.0], "warm": [20.0, 22.0]}
    (tmp_path / "cold.txt").write_text(json.dumps(cold))
    sizes = [{"trials": n, "planning_seconds": n * 1e-5, "peak_bytes": 1000 + 400 * n} for n in (100, 1000)]
    (tmp_path / "planning.txt").write_text(json.dumps({"benchmark": "planning", "sizes": sizes}))
    page = f"before\n{bench.BEGIN}\nan old table\n{bench.END}\nafter"
    table = bench.with_table(page, [row for name in bench.RUNS for row in bench.rows_of(name)])
    assert table.startswith("before\n") and table.endswith("\nafter") and "old table" not in table
    assert "| `launch smoke`, whole | build 3976d95 | 12 s | 6 s | 2x | 2x, met |" in table
    assert "| three columns of 10,000 parts | build 3976d95 | 38 s | 4 s | 9.5x | 19x, missed |" in table
    assert "| first launch of `s` on a machine | later ones, 1.2 times | 25.2 s | 31.5 s | 0.8x | 1x, missed |" in table
    assert "| planning of 1,000 trials | target | 20 us a trial | 10 us a trial | 2x | 1x, met |" in table
    assert "| memory of a trial up to 1,000 | target | 300 B | 400 B | 0.75x | 1x, missed |" in table


def test_operations_of_a_convolutional_step():
    """Of a net of eight channels on 1 x 24 x 24 cropped images, by hand; the first layer has no input gradient."""
    first = 2 * 2 * 25 * 1 * 8 * 24 * 24
    second = 3 * 2 * 25 * 8 * 8 * 11 * 11
    dense = 3 * 2 * (8 * 5 * 5 * 15 + 15 * 7 + 7 * 10)
    assert convolution.operations(convolution.Shape(8, 784, 1)) == 100 * (first + second + dense)


def test_operations_of_a_recurrent_step():
    """Of an LSTM of 16 units for 20 steps: inputs once more for their weights, the state's matrix both ways."""
    inputs, state = 4 * 16 * 8, 4 * 16 * 16
    steps = 32 * 20 * 2 * (2 * inputs + 3 * state)
    assert sequence_step.operations(sequence_step.Shape("lstm", 20, 16, 0)) == steps + 3 * 2 * 32 * 16 * 4


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "irnn", "ugrnn", "pru_a", "pru_b", "pru_d"])
def test_the_plain_cell_of_the_benchmark_is_the_engines(cell):
    shape = sequence_step.Shape(cell, 7, 8, 0)
    plain, (config,) = sequence_step.Plain(shape), sequence_step.trials(shape, 1)
    ours = models.build(config, 7 * 8, 4)
    with torch.no_grad():
        plain.inputs.weight.copy_(ours.cells[0].weight)
        plain.inputs.bias.copy_(ours.cells[0].bias)
        plain.readout.load_state_dict(ours.readout.state_dict())
        if plain.recurrent_rows:
            plain.state.weight.copy_(ours.cells[0].recurrent)
        x = torch.randn(5, 56, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(plain(x), ours(x), atol=1e-5)


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("row", optimizer_step.ROWS)
def test_every_optimizer_of_the_step_benchmark_takes_the_engines_steps(row, monkeypatch):
    """torch's own optimizers and schedulers in the benchmark's loop, against the reference of the engine's tests."""
    fields = {**network_step.BASE, "optimizer.learning_rate": 1e-3, **optimizer_step.ROWS[row]}
    trial = TrialConfig.of({**fields, "model.width": 8, "stop.measure_steps": 10**6})
    steps, built = 6, []
    build = models.build
    monkeypatch.setattr(optimizer_step.models, "build", lambda *values: built.append(build(*values)) or built[-1])
    program = trainer.compose([trial])
    orders = iter(trainer.batches(program, trainer.init(program, [trial]), steps)[:, 0])
    expected, _ = plain.train(trial, steps)
    monkeypatch.setattr(optimizer_step.torch, "randperm", lambda *_values, **_options: next(orders))
    built.clear()
    optimizer_step.plain_torch(trial, "cpu")(steps)
    ours, theirs = weights_of(built[0]), weights_of(expected)
    scale = 0.05 if row == "muon" else 1e-5  # torch iterates Muon in bfloat16
    moved = weights_of(build(trial, *tasks.shape(trial)))
    for name, weight in ours.items():
        step = (theirs[name] - moved[name]).abs().max()
        assert (weight - theirs[name]).abs().max() <= scale * step, name


@pytest.mark.parametrize("network", network_step.NETWORKS)
def test_every_network_of_the_step_benchmark_trains_in_each_way(network, monkeypatch):
    monkeypatch.setattr(network_step, "SECONDS", 0.0)
    monkeypatch.setattr(network_step, "ROUNDS", 1)
    small = {**network_step.NETWORKS[network], "model.width": 8}
    times = network_step.measure(small, 2, "cpu")
    assert set(times) == {"plain", "serial", "fused"}
    assert min(times.values()) > 0


def test_the_table_of_a_gpu_is_made_of_the_raw_output(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "RAW", tmp_path / "raw.txt")
    empty = gpu.table({})
    assert len(empty) == 2 + 12 and all(line.endswith("| not measured |  |") for line in empty[2:])
    steps = [
        {"width": width, "members": 64, "plain": 990.0, "torch.func": 44.3, "uncompiled": 52.5, "compiled": ours}
        for width, ours in ((32, 9.4), (128, 12.0))
    ]
    taken = [{"members": 4, "milliseconds": {"plain": 6.9, "serial": 9.5, "fused": 6.8}}]
    told = [
        {"item": "tests", "code": 1, "output": "FAILED x\n2 failed, 196 passed in 3s"},
        {"item": "kill", "code": 0, "trials": 12, "equal": 12, "resumed_steps": 0},
        {"item": "memory", "code": -1},
        {"item": "member-step", "code": 0, "microseconds": steps},
        {"item": "convolution", "code": 0, "rows": taken},
        {"item": "work-b", "code": 0, "seconds": 45.25, "trials": 10000, "finished": 10000},
    ]
    gpu.RAW.write_text("\n".join(["NVIDIA", *map(json.dumps, told)]))
    table = gpu.table(gpu.read())
    assert len(table) == len(empty)
    for row in (
        "tests of exactness, devices, checkpoints and training | all pass | 196 of 198 passed | missed",
        # killed too early to show anything
        "not | equal to the bit | 12 of 12 trials equal, 0 steps resumed | missed",
        "a pack of three times the memory | halved, all trials finish | not done in time | missed",
        "member step, 64 members, beside `torch.func`, uncompiled | 4x | 3.69x: 12 beside 44.3 us | missed",
        "member step, 64 members, beside plain torch | 0.97x | 82.5x: 12 beside 990 us | met",
        "member step, 512 members, beside plain torch | 0.97x | not measured | ",
        "convolution, 200 channels, 4 members, beside plain torch | 0.97x | 1.01x: 6.8 beside 6.9 ms | met",
        "work B, the whole launch | 60 s | 45.2 s, 10,000 of 10,000 trials | met",
    ):
        assert any(line.endswith(f"{row} |") for line in table), row


def test_the_page_has_the_table_of_the_raw_output():
    page = bench.PAGE.read_text()
    assert bench.between(page, gpu.BEGIN, gpu.END, gpu.table(gpu.read())) == page


def test_without_a_gpu_nothing_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "RAW", tmp_path / "raw.txt")
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "result_of", lambda *_: pytest.fail("runs"))
    monkeypatch.setattr("sys.argv", ["gpu"])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert end.value.code == 2 and capsys.readouterr().err.startswith("make gpu: torch finds no GPU")
    assert not gpu.RAW.exists()


def test_items_of_a_gpu_end_in_time_and_keep_earlier_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "RAW", tmp_path / "raw.txt")
    gpu.RAW.write_text(json.dumps({"item": "memory", "code": 0, "trials": 1, "finished": 1, "halvings": 1}))
    commands = {
        "kill": ("-c print('{\"equal\":3}')", 60),
        "work-b": ("-c __import__('time').sleep(60)", 1),
        "tests": ("-c import(no)", 60),
    }
    items = {
        name: gpu.ITEMS[name]._replace(command=command, seconds=limit) for name, (command, limit) in commands.items()
    }
    monkeypatch.setattr(gpu, "ITEMS", {**gpu.ITEMS, **items})
    gpu.run(list(commands))
    found = gpu.read()
    assert found["memory"]["finished"] == 1 and found["kill"]["equal"] == 3 and found["kill"]["code"] == 0
    assert found["work-b"]["code"] == -1 and found["tests"]["code"] == 1 and "SyntaxError" in found["tests"]["output"]
