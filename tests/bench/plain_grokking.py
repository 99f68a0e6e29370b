"""Does a plain PyTorch loop that shares no code with memsweep grok as memsweep's stored trials do?

Trains networks on addition modulo 31 one after another, from draws of its own, at some settings of the sweep
`grokking`, and compares them with the stored trials of a results folder: means over networks of the log of steps, and
of shares, whose differences must have 99 % bootstrap intervals that contain 0. Reads the Parquet parts by itself.

    python -m tests.bench.plain_grokking RESULTS --networks 12
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor, nn

P, VALIDATION = 31, 300
RATE, BETAS, BATCH = 0.01, (0.9, 0.98), 128
STEPS, EVERY = 3000, 10
FIT, GENERAL = 0.99, 0.9
LEVEL, RESAMPLES = 0.99, 9999
FIRST_SEED = 90_000
"""Of the draws of this script, which are none of memsweep's."""


class Setting(NamedTuple):
    width: int
    examples: int
    decay: float
    noise: float


SETTING_COLUMNS = ("model_width", "data_examples", "regularization_weight_decay", "data_noise_fraction")
SETTINGS = (
    Setting(128, 480, 1.0, 0.0),
    Setting(128, 480, 0.0, 0.0),
    Setting(128, 560, 1.0, 0.0),
    Setting(128, 640, 3.0, 0.1),
)
MEASURES = (
    "log10 steps to fit",
    "log10 steps to generalize",
    "generalized",
    "memorized at most",
    "memorized at the end",
)


def sample(setting: Setting, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Inputs and labels of training examples, which of these are wrong, inputs and labels of validation examples."""
    a, b = torch.meshgrid(torch.arange(P), torch.arange(P), indexing="ij")
    pairs = torch.stack([a.flatten(), b.flatten()], 1)[torch.randperm(P * P, generator=generator)]
    inputs = F.one_hot(pairs, P).flatten(1).float()
    sums = pairs.sum(1) % P
    train = slice(VALIDATION, VALIDATION + setting.examples)
    labels = sums[train].clone()
    is_wrong = torch.rand(len(labels), generator=generator) < setting.noise
    shift = torch.randint(1, P, (len(labels),), generator=generator)
    labels[is_wrong] = ((labels + shift) % P)[is_wrong]
    return inputs[train], labels, is_wrong, inputs[:VALIDATION], sums[:VALIDATION]


def train(setting: Setting, seed: int) -> dict[str, float]:
    """The measures of one network; a step that is not reached counts with the budget."""
    torch.manual_seed(seed)
    inputs, labels, is_wrong, held_inputs, held_labels = sample(setting, torch.Generator().manual_seed(seed))
    one_hot = F.one_hot(labels, P).float()
    network = nn.Sequential(nn.Linear(2 * P, setting.width), nn.ReLU(), nn.Linear(setting.width, P))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, BETAS, weight_decay=setting.decay)
    order, fit, general, most, left = torch.randperm(len(inputs)), STEPS, STEPS, np.nan, np.nan
    for step in range(1, STEPS + 1):
        batch, order = order[:BATCH], order[BATCH:]
        if len(batch) < BATCH:  # the next epoch begins within a batch
            fresh = torch.randperm(len(inputs))
            batch, order = torch.cat([batch, fresh[: BATCH - len(batch)]]), fresh[BATCH - len(batch) :]
        optimizer.zero_grad()
        F.mse_loss(network(inputs[batch]), one_hot[batch]).backward()
        optimizer.step()
        if step % EVERY == 0:
            with torch.no_grad():
                is_right = network(inputs).argmax(1) == labels
                accuracy = (network(held_inputs).argmax(1) == held_labels).float().mean().item()
            if is_right.float().mean() >= FIT:
                fit = min(fit, step)
            if accuracy >= GENERAL:
                general = min(general, step)
            if is_wrong.any():
                left = is_right[is_wrong].float().mean().item()
                most = np.fmax(most, left)
    values = (np.log10(fit), np.log10(general), float(general < STEPS), most, left)
    return dict(zip(MEASURES, values, strict=True))


def read(table: str, results: Path, columns: list[str]) -> pd.DataFrame:
    """Rows of a table's Parquet parts; a column that a part lacks is null."""
    parts = []
    for path in sorted((results / table).glob("[!.]*.parquet")):
        there = [name for name in columns if name in pq.read_schema(path).names]
        parts.append(pq.read_table(path, columns=there).to_pandas())
    if not parts:
        sys.exit(f"{results / table}: no part of this table; launch the sweep grokking first.")
    frame: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return frame


def stored(setting: Setting, trials: pd.DataFrame, steps: pd.DataFrame) -> pd.DataFrame:
    """The same measures of memsweep's trials of a setting, a row a trial."""
    is_there = (trials["data_task"] == "modular") & (trials["status"] == "finished") & (trials["stop_steps"] == STEPS)
    for name, value in zip(SETTING_COLUMNS, setting, strict=True):
        is_there &= np.isclose(trials[name], value)
    rows = []
    for _, of_trial in steps[steps["trial_id"].isin(trials[is_there]["trial_id"])].groupby("trial_id"):
        curve = of_trial.drop_duplicates("step").sort_values("step")
        fitted = curve["train_correct_count"] >= FIT * curve["train_count"]
        generalized = curve["validation_correct_count"] >= GENERAL * curve["validation_count"]
        fit, general = (curve.loc[is_past, "step"].min() for is_past in (fitted, generalized))
        shares = curve["memorized_count"] / curve["label_changed_count"].where(curve["label_changed_count"] > 0)
        times = [np.log10(STEPS if np.isnan(step) else step) for step in (fit, general)]
        rows.append((*times, float(general < STEPS), shares.max(), shares.iloc[-1]))
    return pd.DataFrame(rows, columns=[*MEASURES])


def difference(plain: np.ndarray, of_memsweep: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """The bootstrap interval of the difference of two means, at LEVEL; percentiles, widened for few networks."""
    draws = []
    for values in (plain, of_memsweep):
        n = len(values)
        index = generator.integers(n, size=(RESAMPLES, n))
        middle = values.mean()
        draws.append(middle + (values[index].mean(1) - middle) * np.sqrt(n / (n - 1)))
    ends = np.quantile(draws[0] - draws[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(ends[0]), float(ends[1])


def main() -> None:
    """Trains, compares, prints a row a setting and measure, and ends with 1 where an interval leaves out 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--networks", type=int, default=12, help="of each setting")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trials = read("trials", arguments.results, ["trial_id", "status", "data_task", "stop_steps", *SETTING_COLUMNS])
    counts = ["train_correct_count", "train_count", "validation_correct_count", "validation_count"]
    steps = read("steps", arguments.results, ["trial_id", "step", *counts, "memorized_count", "label_changed_count"])
    generator, begin, differ = np.random.default_rng(0), time.perf_counter(), 0
    print(f"{'setting':44} {'measure':28} {'plain':>8} {'memsweep':>8}  99 % interval of the difference")
    for setting in SETTINGS:
        of_memsweep = stored(setting, trials, steps)
        if len(of_memsweep) < 2:
            sys.exit(f"{arguments.results}: {len(of_memsweep)} finished trials of {setting}; launch grokking.")
        plain = pd.DataFrame([train(setting, FIRST_SEED + number) for number in range(arguments.networks)])
        for measure in MEASURES:
            one, other = plain[measure].to_numpy(float), of_memsweep[measure].to_numpy(float)
            if np.isnan(one).any():
                continue
            low, high = difference(one, other, generator)
            agrees = low <= 0 <= high
            differ += not agrees
            text = f"width {setting.width}, {setting.examples} pairs, decay {setting.decay:g}, noise {setting.noise:g}"
            verdict = "agrees" if agrees else "DIFFERS"
            print(f"{text:44} {measure:28} {one.mean():8.3f} {other.mean():8.3f}  {low:.3f} to {high:.3f}  {verdict}")
    print(f"{differ} of the measures differ; {time.perf_counter() - begin:.0f} s")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
