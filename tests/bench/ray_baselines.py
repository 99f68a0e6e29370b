"""How many trials of work A a second does Ray Tune finish, with one Ray Tune trial for each of ours?

Two ways, both with Ray Tune's own default loggers and one core a trial: `documented`, a function trainable that reports
after every epoch, and `reuse`, a class trainable whose actors go on to the next trial (`reuse_actors`). What they train
is the plain loop. The images are loaded once and handed over, the documented way to spare a trial the loading.

    python -m tests.bench.ray_baselines --trials-documented 16 --trials-reuse 160
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from torch import Tensor

from tests.bench import machine, plain_loop

WAYS = ("documented", "reuse")
REPOSITORY = Path(__file__).parents[2]


def documented(config: dict[str, Any], digits: tuple[Tensor, Tensor]) -> None:
    torch.set_num_threads(1)
    for counts in plain_loop.epochs(plain_loop.Trial(**config["trial"]), digits):
        tune.report(counts)


class Reused(tune.Trainable):  # type: ignore[misc]  # Ray is not type-checked
    def setup(self, config: dict[str, Any], digits: tuple[Tensor, Tensor]) -> None:
        torch.set_num_threads(1)
        self.digits = digits
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.epochs = plain_loop.epochs(plain_loop.Trial(**new_config["trial"]), self.digits)
        return True

    def step(self) -> dict[str, Any]:
        return dict(next(self.epochs))


def seconds_to_fit(way: str, trial_count: int) -> float:
    """Seconds inside `Tuner.fit`, on a local Ray of this process's own."""
    trainable: Any = {"documented": documented, "reuse": Reused}[way]
    ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as storage:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(trainable, digits=plain_loop.images()), {"cpu": 1}),
            param_space={"trial": tune.grid_search([trial._asdict() for trial in plain_loop.sample(trial_count)])},
            tune_config=tune.TuneConfig(reuse_actors=way == "reuse"),
            run_config=tune.RunConfig(
                storage_path=storage,
                verbose=0,
                stop={"training_iteration": plain_loop.EPOCHS},
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # nobody else stores the weights
            ),
        )
        began = time.perf_counter()
        results = tuner.fit()
        seconds = time.perf_counter() - began
        finished = [(results[i].metrics or {}).get("training_iteration") for i in range(len(results))]
    ray.shutdown()
    if results.num_errors or finished != [plain_loop.EPOCHS] * trial_count:
        raise RuntimeError(f"{way}: {results.num_errors} of {trial_count} trials failed; iterations {finished}")
    return seconds


def marginal_rate(way: str, trial_count: int) -> dict[str, float]:
    """Trials a second once everything has started: (n2 - n1) / (t2 - t1) of two fresh processes, n1 = n2 / 4, even."""
    few, many = max(2, trial_count // 8 * 2), max(4, trial_count // 2 * 2)
    seconds_few, seconds_many = _in_fresh_process(way, few), _in_fresh_process(way, many)
    return {
        "trials_few": few,
        "seconds_few": seconds_few,
        "trials_many": many,
        "seconds_many": seconds_many,
        "trials_per_second": (many - few) / (seconds_many - seconds_few),
    }


def _in_fresh_process(way: str, trial_count: int) -> float:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",  # what a local ray.init chooses, but with a token that is stored nowhere
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    command = [sys.executable, "-m", __spec__.name, "--way", way, "--trials", str(trial_count)]
    ended = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-4000:]}")
    return float(ended.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials-documented", type=int, default=16, metavar="N")
    parser.add_argument("--trials-reuse", type=int, default=160, metavar="N")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # what the fresh process is told
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(seconds_to_fit(options.way, options.trials))
        return
    print(machine.header())
    rates = {}
    for way, trial_count in zip(WAYS, (options.trials_documented, options.trials_reuse), strict=True):
        rates[way] = marginal_rate(way, trial_count)
        print(describe(way, rates[way]))
    print(json.dumps({"benchmark": "ray_baselines", "machine": machine.describe(), **rates}))


def describe(way: str, rate: dict[str, float]) -> str:
    return (
        f"Ray Tune, {way}: {rate['trials_few']} trials in {rate['seconds_few']:.1f} s, {rate['trials_many']} in "
        f"{rate['seconds_many']:.1f} s, so {rate['trials_per_second']:.2f} trials/s"
    )


if __name__ == "__main__":
    main()
