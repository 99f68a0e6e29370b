"""Do double descent and memorization scores come out the same in plain torch, without memsweep?

Trains again, one network after another, what the sweeps `double_descent` and `memorization` train, and compares with
the tables that memsweep stored: mean errors by width, and mean scores of the same pool with the same labels, on subsets
of its own. They agree where the 99 % interval of the difference holds 0. Imports nothing of memsweep: tables are read
by pyarrow.

    python -m tests.bench.plain_phenomena results
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import torch
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

LEVEL = 0.99
DESCENT_WIDTHS, SCORE_WIDTHS = (8, 24, 256), (16, 128)
NOISE, CLASSES = 0.2, 10


def main() -> int:
    """Prints a line for each comparison; exits with 1 where an interval does not hold 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--subsets", type=int, default=80)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compared = chain(descent(arguments.results, arguments.seeds), scores(arguments.results, arguments.subsets))
    differing = 0
    for line, agrees in compared:
        print(f"{'agrees' if agrees else 'DIFFERS'}  {line}", flush=True)
        differing += not agrees
    return min(differing, 1)


def train(x: Tensor, y: Tensor, width: int, steps: int, batch: int, seed: int, *, adam: bool = False) -> nn.Module:
    """Trains one network with a hidden layer by SGD with momentum or by Adam; each epoch has a new order."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(x.shape[1], width), nn.ReLU(), nn.Linear(width, CLASSES))
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if adam:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.0)
    order = torch.randperm(len(y))
    for step in range(steps):
        begin = step * batch % len(y)
        if begin == 0:
            order = torch.randperm(len(y))
        rows = order[begin : begin + batch]
        optimizer.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model


def digits() -> tuple[Tensor, Tensor]:
    """All digits with inputs in [0, 1], and their labels."""
    inputs, labels = load_digits(return_X_y=True)
    return torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels)


def table(results: Path, name: str, sweep: str, columns: list[str]) -> dict[str, np.ndarray]:
    """Columns of a table's rows of one sweep's trials, of one attempt for each trial."""
    wanted = ds.dataset(results / "wanted").to_table(["sweep", "trial_id"])
    trial_ids = wanted.filter(pc.equal(wanted["sweep"], sweep))["trial_id"].unique()
    trials = ds.dataset(results / "trials").to_table(["trial_id", "attempt_id", "status"])
    trials = trials.filter(pc.and_(pc.is_in(trials["trial_id"], trial_ids), pc.equal(trials["status"], "finished")))
    attempts = dict(zip(trials["trial_id"].to_pylist(), trials["attempt_id"].to_pylist(), strict=True))
    rows = ds.dataset(results / name).to_table([*columns, "trial_id", "attempt_id"])
    rows = rows.filter(pc.is_in(rows["attempt_id"], pc.unique(trials["attempt_id"])))
    is_chosen = [
        attempts.get(trial_id) == attempt_id
        for trial_id, attempt_id in zip(rows["trial_id"].to_pylist(), rows["attempt_id"].to_pylist(), strict=True)
    ]
    return {column: rows[column].to_numpy()[is_chosen] for column in [*columns, "trial_id"]}


def difference(name: str, ours: np.ndarray, stored: np.ndarray) -> tuple[str, bool]:
    """Compares two means over replicates by Welch's interval."""
    test = stats.ttest_ind(ours, stored, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    line = f"{name}: plain {ours.mean():.4f}, stored {stored.mean():.4f}, difference {low:+.4f} to {high:+.4f}"
    return line, bool(low <= 0 <= high)


def descent(results: Path, seeds: int) -> Iterator[tuple[str, bool]]:
    """Yields the comparison of train and test error at three widths, with a fifth of 500 labels wrong."""
    names = [
        "model_width",
        "data_noise_fraction",
        "regularization_weight_decay",
        "data_examples",
        "train_correct_count",
    ]
    names += ["train_count", "test_correct_count", "test_count"]
    stored = table(results, "trials", "double_descent", names)
    x, y = digits()
    for width in DESCENT_WIDTHS:
        errors = []
        for seed in range(seeds):
            rng = np.random.default_rng([1, width, seed])
            order = rng.permutation(len(y))
            train_rows, test_rows = order[:500], order[500:1197]
            wrong = (y[train_rows].numpy() + rng.integers(1, CLASSES, 500)) % CLASSES
            given = torch.tensor(np.where(rng.random(500) < NOISE, wrong, y[train_rows]))
            model = train(x[train_rows], given, width, 3000, 50, seed, adam=True)
            with torch.no_grad():
                parts = ((x[train_rows], given), (x[test_rows], y[test_rows]))
                errors.append([(model(of).argmax(1) != labels).float().mean().item() for of, labels in parts])
        is_here = (stored["model_width"] == width) & (stored["data_noise_fraction"] == NOISE)
        is_here &= (stored["regularization_weight_decay"] == 0) & (stored["data_examples"] == 500)
        for place, part in enumerate(("train", "test")):
            of_sweep = 1 - stored[f"{part}_correct_count"][is_here] / stored[f"{part}_count"][is_here]
            yield difference(f"{part} error, width {width}", np.array(errors)[:, place], of_sweep)


def mean_scores(trained: np.ndarray, right: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Mean score of examples with true and with wrong labels, in ten blocks of subsets: [10, 2]."""
    blocks = []
    for block in np.array_split(np.arange(len(trained)), 10):
        inside, answers = trained[block], right[block]
        with np.errstate(invalid="ignore", divide="ignore"):
            score = (inside & answers).sum(0) / inside.sum(0) - (~inside & answers).sum(0) / (~inside).sum(0)
        blocks.append([np.nanmean(score[~kinds]), np.nanmean(score[kinds])])
    return np.array(blocks)


def scores(results: Path, subsets: int) -> Iterator[tuple[str, bool]]:
    """Yields the comparison of mean scores on the sweep's pool and labels, with other subsets and networks."""
    x, _ = digits()
    trials = table(results, "trials", "memorization", ["model_width", "data_noise_fraction"])
    answers = table(
        results,
        "memorization",
        "memorization",
        ["part", "example", "source_index", "given_label", "corrupted", "is_trained", "is_right"],
    )
    for width in SCORE_WIDTHS:
        chosen = trials["trial_id"][(trials["model_width"] == width) & (trials["data_noise_fraction"] == NOISE)]
        is_here = np.isin(answers["trial_id"], chosen) & (answers["part"] == "pool")
        rows = {name: values[is_here] for name, values in answers.items()}
        order = np.lexsort((rows["example"], rows["trial_id"]))
        shape = (len(chosen), -1)
        grid = {name: rows[name][order].reshape(shape) for name in rows}
        pool = x[torch.tensor(grid["source_index"][0].astype(int))]
        given = torch.tensor(grid["given_label"][0].astype(int))
        kinds = grid["corrupted"][0].astype(bool)
        trained, right = np.zeros((subsets, len(given)), bool), np.zeros((subsets, len(given)), bool)
        for subset in range(subsets):
            places = np.random.default_rng([2, width, subset]).permutation(len(given))[:490]
            model = train(pool[places], given[places], width, 1000, 49, subset)
            trained[subset, places] = True
            with torch.no_grad():
                right[subset] = (model(pool).argmax(1) == given).numpy()
        ours = mean_scores(trained, right, kinds)
        of_sweep = mean_scores(grid["is_trained"].astype(bool), grid["is_right"].astype(bool), kinds)
        for place, kind in enumerate(("true", "wrong")):
            name = f"mean score of {kind} labels, width {width}"
            yield difference(name, ours[:, place], of_sweep[:, place])


if __name__ == "__main__":
    sys.exit(main())
