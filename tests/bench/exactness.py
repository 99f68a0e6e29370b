"""For which trainings does a packed member get the very numbers of its training alone, and of plain torch?

Each training of the grid runs for some steps in packs, alone (a pack of one) and in plain torch (`train/plain.py`):
shapes by optimizers and precisions for every device, mode and number of threads, then every case of `tests/cases.py`.
Compared are the weights and the measurements, in plain torch the gradient norms among them. Where they are not equal,
two deviations stand instead of `exact`: the largest of the weights, absolute, then the largest of the measurements,
relative. Of each pack the first member and the last are compared. Plain torch is on the same device and uncompiled.

    python -m tests.bench.exactness
    python -m tests.bench.exactness --widths 8 128 --dims 64 --dtypes float32 --threads 1 --cases --compiled
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memsweep.engine.train import plain, trainer
from memsweep.engine.train.program import MODES
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import DTYPES, OPTIMIZERS
from tests.bench import machine
from tests.cases import CASES, SINGLE, SMALL

MANY = 64
FEW = 3
MOST_PARAMETERS = 2**20
"""Of all members of a pack together: wide networks have fewer than MANY members, but at least MANY / 8."""
DIMS = {64: "digits", 784: "mnist5k"}
UPDATES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer.learning_rate": 0.05, "optimizer.momentum": 0.9, "regularization.weight_decay": 1e-4},
    "adamw": {"optimizer.learning_rate": 0.001, "regularization.weight_decay": 1e-2},
}
UPDATES |= {
    "nesterov": UPDATES["sgd"],
    "sam": {**UPDATES["sgd"], "optimizer.radius": 0.05},
    "rmsprop": {"optimizer.learning_rate": 0.001, "optimizer.momentum": 0.5, "regularization.weight_decay": 1e-4},
    "adam": {"optimizer.learning_rate": 0.001, "regularization.weight_decay": 1e-4},
    "muon": {**UPDATES["adamw"], "optimizer.momentum": 0.95},
}
COMPILED_WIDTHS, COMPILED_CASES = (8, 37, 128), ("all at once",)
"""What --compiled compiles, of what is asked for: a program takes 10 to 25 s."""
COLUMNS = (("packed vs alone", "packed"), ("alone vs plain", "alone"))


class Training(NamedTuple):
    """A row of the tables, but for its variants: columns."""

    name: str
    fields: dict[str, Any]
    variants: dict[str, dict[str, Any]]  # column -> further fields
    members: tuple[int, ...]


class Place(NamedTuple):
    """How and where it runs; a table each."""

    device: str
    mode: str
    compiled: bool
    threads: int

    def __str__(self) -> str:
        compiled = "compiled" if self.compiled else "uncompiled"
        return f"{self.device}, {self.mode}, {compiled}, {self.threads} thread{'s' * (self.threads > 1)}"


class Run(NamedTuple):
    """What one member has come to."""

    weights: dict[str, Tensor]
    measurements: list[float]
    norms: list[float]  # those of the measurements that plain torch has too: of gradients


class Deviation(NamedTuple):
    weights: float  # largest, absolute; 0 with equal bits
    measurements: float  # largest, relative

    def __str__(self) -> str:
        return " ".join(f"{value:.0e}" if value else "0" for value in self) if any(self) else "exact"


def main() -> None:
    options = parsed()
    print(machine.header())
    print(
        f"{options.steps} steps, measured twice; `exact`, or the deviations of weights and of measurements", flush=True
    )
    rows = []
    threads_before = torch.get_num_threads()
    try:
        for place in places(options):
            torch.set_num_threads(place.threads)
            for kind in ("shape", "case"):
                trainings = list((shapes if kind == "shape" else cases)(options, place.compiled))
                if trainings:
                    print_head(place, kind, trainings[0].variants)
                for training in trainings:
                    rows += compare(training, place, options.steps)
    finally:
        torch.set_num_threads(threads_before)
    print()
    for title, key in COLUMNS:
        if rows:
            print_summary(title, key, rows)
    print(json.dumps({"benchmark": "exactness", "machine": machine.describe(), "steps": options.steps, "rows": rows}))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="*", default=[8, 32, 37, 64, 128, 256, 512], metavar="H")
    parser.add_argument("--dims", type=int, nargs="+", default=list(DIMS), choices=DIMS, metavar="D")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=CASES, metavar="CASE")
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="T")
    cuda = ["cuda"] if torch.cuda.is_available() else []
    parser.add_argument("--devices", nargs="+", default=["cpu", *cuda], choices=["cpu", *cuda])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--steps", type=int, default=30, metavar="S")
    parser.add_argument("--compiled", action="store_true", help="compare compiled programs too, some of the grid")
    return parser.parse_args()


def places(options: argparse.Namespace) -> Iterator[Place]:
    """Numbers of threads matter on CPUs; compiled programs are compared with the first of them."""
    for device, mode, compiled in product(options.devices, options.modes, (False, True)[: 1 + options.compiled]):
        for threads in options.threads if device == "cpu" and not compiled else options.threads[:1]:
            yield Place(device, mode, compiled, threads)


def shapes(options: argparse.Namespace, compiled: bool) -> Iterator[Training]:
    for dim, width in product(options.dims, options.widths):
        if compiled and width not in COMPILED_WIDTHS:
            continue
        fields = {
            "data.task": DIMS[dim],
            "data.examples": 300,
            "data.validation_examples": 100,
            "data.noise_kind": "labels",
            "data.noise_fraction": 0.3,
            "model.width": width,
        }
        parameters = dim * width + width**2 + 12 * width + 10
        many = min(MANY, max(MANY // 8, MOST_PARAMETERS // parameters))
        variants = {
            f"{name} {dtype}": {"optimizer.name": name, "compute.dtype": dtype, **UPDATES[name]}
            for name, dtype in product(options.optimizers, options.dtypes)
        }
        yield Training(f"{dim}-{width}-{width}-10", fields, variants, (FEW, many))


def cases(options: argparse.Namespace, compiled: bool) -> Iterator[Training]:
    for name in options.cases:
        if not compiled or name in COMPILED_CASES:
            dtypes = [dtype for dtype in options.dtypes if name not in SINGLE or dtype == "float32"]
            variants = {dtype: {"compute.dtype": dtype} for dtype in dtypes}
            yield Training(name, {**SMALL, **CASES[name]}, variants, (FEW, MANY))


def compare(training: Training, place: Place, steps: int) -> list[dict[str, Any]]:
    """Rows of one training, by members and variant; prints a line for each number of members."""
    rows = []
    found = {}
    stop = {"stop.steps": steps, "stop.measure_steps": -(-steps // 2)}
    for variant, fields in training.variants.items():
        trials = [
            TrialConfig.of({**training.fields, **fields, **stop, "seed": seed}) for seed in range(max(training.members))
        ]
        chosen = sorted({seed for members in training.members for seed in compared(members)})
        alone = {seed: run([trials[seed]], place)[0] for seed in chosen}
        versus_plain = largest(
            deviation(alone[seed]._replace(measurements=alone[seed].norms), plain_run(trials[seed], place.device))
            for seed in compared(FEW)
        )
        for members in training.members:
            packed = run(trials[:members], place)
            versus_alone = largest(deviation(packed[seed], alone[seed]) for seed in compared(members))
            found[members, variant] = (versus_alone, versus_plain)
            rows.append(
                {
                    **place._asdict(),
                    "training": training.name,
                    "variant": variant,
                    "members": members,
                    "packed": versus_alone._asdict(),
                    "alone": versus_plain._asdict(),
                }
            )
    for members in training.members:
        first = members == training.members[0]  # how a member does alone has nothing to do with their number
        cells = [str(found[members, variant][0]) for variant in training.variants]
        cells += [str(found[members, variant][1]) if first else "" for variant in training.variants]
        print(f"{training.name:16}{members:>4}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    return rows


def compared(members: int) -> tuple[int, int]:
    return 0, members - 1


def run(trials: Sequence[TrialConfig], place: Place) -> list[Run]:
    """The trials in one pack, to their end."""
    mode: dict[str, Any] = {} if place.mode == "fused" else {"mode": place.mode}
    program = trainer.compose(trials, place.device, compiled=place.compiled, **mode)
    state = trainer.init(program, trials)
    curves: dict[str, list[list[float]]] = {}  # measurement -> time -> member
    while True:
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        for name, values in measured.counts.items():
            curves.setdefault(name, []).append(values.tolist())
        if not measured.active.any():
            break
    numbers = {**state.buffers, **state.parameters, **state.averages}  # buffers: frozen parameters, too
    weights = {name: value.cpu() for name, value in numbers.items()}
    return [
        Run(
            {name: value[m] for name, value in weights.items()},
            [values[m] for curve in curves.values() for values in curve],
            [values[m] for values in curves["gradient_norm"]],
        )
        for m in range(len(trials))
    ]


def plain_run(trial: TrialConfig, device: str) -> Run:
    model, norms = plain.train(trial, trial.budget, device)
    every = trial.stop.measure_steps
    measured = [norms[min(step, trial.budget) - 1] for step in range(every, trial.budget + every, every)]
    return Run({name: value.detach().cpu() for name, value in model.named_parameters()}, measured, measured)


def deviation(mine: Run, theirs: Run) -> Deviation:
    weights = max((mine.weights[name] - value).abs().max().item() for name, value in theirs.weights.items())
    return Deviation(weights, max(map(relative, mine.measurements, theirs.measurements)))


def relative(a: float, b: float) -> float:
    return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))


def largest(deviations: Iterable[Deviation]) -> Deviation:
    return Deviation(*map(max, zip(*deviations, strict=True)))


def print_head(place: Place, kind: str, variants: Iterable[str]) -> None:
    names = "".join(f"{variant:>18}" for variant in variants)
    print(f"\n{place}")
    print(f"{'':20}" + "".join(f"{title:^{len(names)}}" for title, _ in COLUMNS))
    print(f"{kind:17}{'M':>3}" + names * len(COLUMNS))


def print_summary(title: str, key: str, rows: list[dict[str, Any]]) -> None:
    found = [Deviation(**row[key]) for row in rows]
    exact, all_exact = sum(not one.weights for one in found), sum(not any(one) for one in found)
    most = Deviation(*map(max, zip(*found, strict=True)))
    print(
        f"{title}: weights exact in {exact} of {len(rows)}, measurements too in {all_exact}; "
        f"at most {most.weights:.0e} in weights, {most.measurements:.0e} in measurements"
    )


if __name__ == "__main__":
    main()
