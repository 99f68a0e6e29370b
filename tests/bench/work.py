"""How long does a whole sweep take by memsweep, to stored Parquet and on to report and MLflow, against today's ways?

Work A: 1,000 trials on scikit-learn's digits: 20 noise fractions, 10 weight decays, 5 seeds, an MLP, 30 epochs. Work B:
the same with 50 seeds, 10,000 trials. In one call and in turn: the plain loop on all cores (three times, so that drift
shows), memsweep with MLflow and then without (`launch`, `report`, and `track`, which waits until MLflow is complete),
Ray Tune as documented and with reused actors. Theirs are samples: the plain loop's time for all trials follows from its
rate, Ray Tune's from its marginal rate, start-up subtracted. Then: where memsweep's seconds go, whether all trials are
in the tables and in MLflow, and whether its accuracies agree with the plain loop's.

    python -m tests.bench.work
    python -m tests.bench.work --seeds 50 --skip-mlflow
    python -m tests.bench.work --skip-ray --plain-trials 75 --cold
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench import machine, plain_loop

REPOSITORY = Path(__file__).parents[2]
SWEEP = "sweeps/generalization.py"
PACK_PARTS = ("start", "compile", "train", "evaluate", "write")
NAMES = {5: "work A", 50: "work B"}
TARGETS = {
    ("work A", "launch", "plain loop"): {"warm": 4.0, "cold": 3.0},
    ("work A", "to report and MLflow", "Ray Tune, documented"): {"warm": 60.0},
    ("work A", "to report and MLflow", "Ray Tune, reuse"): {"warm": 4.0},
    ("work B", "launch", "plain loop"): {"warm": 6.0},
    ("work B", "launch", "Ray Tune, documented"): {"warm": 200.0},
    ("work B", "launch", "Ray Tune, reuse"): {"warm": 15.0},
}
"""What memsweep's rate should be of another's, at least; cold: with no program cached."""
QUERY, QUERIES, QUERY_TARGET = "select trial_id, status, step_count from trials order by trial_id limit 3", 5, 0.15
CHANCE_Z = 3.8
"""Largest of ten |z| that 5 seeds against 5 exceed by chance in 5 % of repeats (Student's t, 8 degrees, Bonferroni)."""


class Launch(NamedTuple):
    began: float  # seconds since 1970
    ended: float
    reported: float
    complete: float  # MLflow holds all of it
    run_count: int  # trials in MLflow
    query_seconds: float  # of three columns of its trials, above those of the command on an empty folder
    trials: list[dict[str, Any]]  # finished, each once
    packs: list[dict[str, Any]]
    timed: str  # when the step of its program was timed; by this launch, its start takes seconds longer

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def main() -> None:
    options = parsed()
    cores = os.cpu_count() or 1
    work, wanted = options.work, options.seeds * plain_loop.SETTINGS
    sample = plain_loop.sample(options.plain_trials)
    plain: list[tuple[list[plain_loop.Trial], float, list[dict[str, Any]]]] = []
    ray_rates: dict[str, dict[str, float]] = {}

    def run_plain() -> None:
        trials = sample[len(plain) :: 3]
        plain.append((trials, *plain_loop.measure(trials, cores)))

    print(machine.header(), flush=True)
    if not options.cold:
        fill_cache(options.seeds)
    run_plain()
    browsed = None if options.skip_mlflow else launch(options, tracked=True)
    ours = launch(options, tracked=False)
    run_plain()
    if not options.skip_ray:
        from tests.bench import ray_baselines  # here: --skip-ray needs no Ray

        for way, count in (("documented", options.trials_documented), ("reuse", options.trials_reuse)):
            ray_rates[way] = ray_baselines.marginal_rate(way, count)
            print(ray_baselines.describe(way, ray_rates[way]), flush=True)
    run_plain()

    in_turn = [len(trials) / seconds for trials, seconds, _ in plain]
    rates = {
        "plain loop": len(sample) / sum(seconds for _, seconds, _ in plain),
        **{f"Ray Tune, {way}": rate["trials_per_second"] for way, rate in ray_rates.items()},
    }
    our_rates = {"launch": wanted / ours.seconds}
    if browsed:
        our_rates["launch beside MLflow"] = wanted / browsed.seconds
        our_rates["to report and MLflow"] = wanted / (browsed.complete - browsed.began)
    parts = where_time_goes(ours)
    rows = agreement(
        [(trial, result) for trials, _, results in plain for trial, result in zip(trials, results, strict=True)],
        ours.trials,
    )

    print(f"plain loop on {cores} cores, in turn: {', '.join(f'{rate:.2f}' for rate in in_turn)} trials/s\n")
    targets = {
        how: {who: target for who in rates if (target := target_of(work, how, who, options.cold))} for how in our_rates
    }
    print_rates(work, wanted, rates, our_rates, targets)
    if browsed:
        print_tail(browsed)
    print_parts(parts, ours)
    print_agreement(rows)
    in_mlflow = f"; {browsed.run_count} in MLflow" if browsed else ""
    print(f"\n{len(ours.trials)} of {wanted} trials finished and stored{in_mlflow}")
    print(f"a query of three columns takes {ours.query_seconds:.2f} s more than on an empty folder")
    told = {
        "benchmark": work.replace(" ", "_").lower(),
        "trial_count": wanted,
        "machine": machine.describe(),
        "cold": options.cold,
        "trials_per_second": {**rates, **{f"memsweep, {how}": rate for how, rate in our_rates.items()}},
        "plain_loop_in_turn": in_turn,
        "ray": ray_rates,
        "memsweep_seconds": ours.seconds,
        "query_seconds_above_empty": ours.query_seconds,
        "memsweep_over": {how: {who: own / rate for who, rate in rates.items()} for how, own in our_rates.items()},
        "targets": targets,
        "memsweep_with_mlflow": browsed
        and {
            "launch_seconds": browsed.seconds,
            "report_seconds": browsed.reported - browsed.ended,
            "track_seconds": browsed.complete - browsed.reported,
            "run_count": browsed.run_count,
        },
        "memsweep_seconds_in": parts,
        "program_timed": ours.timed,
        "member_step_count": sum(pack["member_step_count"] for pack in ours.packs),
        "finished_count": len(ours.trials),
        "agreement": rows,
        "largest_z": max(abs(row["z"]) for row in rows),
    }
    print(json.dumps(told))
    if {len(ours.trials), browsed.run_count if browsed else wanted} != {wanted}:
        sys.exit(1)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="5: work A; 50: work B")
    parser.add_argument("--trials-documented", type=int, default=16, metavar="N")
    parser.add_argument("--trials-reuse", type=int, default=160, metavar="N")
    parser.add_argument("--plain-trials", type=int, default=150, metavar="N", help="a multiple of 25, at most 250")
    parser.add_argument("--skip-ray", action="store_true")
    parser.add_argument("--skip-mlflow", action="store_true", help="only to stored Parquet")
    parser.add_argument("--cold", action="store_true", help="memsweep starts with an empty cache of compiled programs")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds {options.seeds}: must be 2 or more, for the spread over seeds")
    if options.plain_trials not in range(25, 251, 25):
        parser.error(f"--plain-trials {options.plain_trials}: must be a multiple of 25, from 25 to 250")
    options.work = NAMES.get(options.seeds, f"work of {options.seeds} seeds")
    return options


def launch(options: argparse.Namespace, tracked: bool) -> Launch:
    """Run the whole command into a fresh folder and read what it stored; with MLflow, go on until all is to be seen."""
    with tempfile.TemporaryDirectory() as folder:
        results, environment = Path(folder) / "results", dict(os.environ)
        if options.cold:
            environment["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "programs")
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{results}/mlflow.db" if tracked else "none"
        began = time.time()
        memsweep("launch", SWEEP, "--set", f"seeds=0:{options.seeds}", results=results, environment=environment)
        ended = reported = complete = time.time()
        run_count = 0
        if tracked:
            memsweep("report", results=results, environment=environment)
            reported = time.time()
            memsweep("track", results=results, environment=environment)
            complete = time.time()
            run_count = runs_in(environment["MLFLOW_TRACKING_URI"])
        finished = {row["trial_id"]: row for row in read(results, "trials") if row["status"] == "finished"}
        above = query_seconds(results, environment) - query_seconds(Path(folder) / "empty", environment)
        trials, packs = list(finished.values()), read(results, "packs")
        timed = ", ".join(map(when_timed, json.loads((results / "programs.json").read_text()).values()))
        return Launch(began, ended, reported, complete, run_count, above, trials, packs, timed)


def when_timed(plan: dict[str, Any]) -> str:
    """When the step of a program was timed, as its results folder states it."""
    if not plan["measured_at"]:
        return "never"
    return f"before, {plan['measured_at']}" if plan["is_reused"] else "by this launch"


def query_seconds(results: Path, environment: dict[str, str]) -> float:
    """Returns the median seconds of a query of three columns."""
    results.mkdir(exist_ok=True)
    seconds = []
    for _ in range(QUERIES):
        began = time.perf_counter()
        memsweep("query", QUERY, results=results, environment=environment)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def fill_cache(seeds: int) -> None:
    """Compiles the program, and plans the launch, which times a step: what earlier launches leave on the disk."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "none"}
    with tempfile.TemporaryDirectory() as folder:
        compiled, planned = ("--set", "seeds=0", "--compile", "always"), ("--set", f"seeds=0:{seeds}")
        memsweep("launch", SWEEP, *compiled, results=Path(folder, "compiled"), environment=environment)
        memsweep("plan", SWEEP, *planned, results=Path(folder, "planned"), environment=environment)


def memsweep(*words: str, results: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "memsweep", *words, "--results", str(results)]
    completed = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if completed.returncode:
        sys.exit(f"{' '.join(command)} ended with {completed.returncode}:\n{completed.stderr[-4000:]}")


def runs_in(uri: str) -> int:
    """Trials that MLflow holds, asked of MLflow itself."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(
        client.search_runs(experiments, "tags.role = 'trial' and attributes.status = 'FINISHED'", max_results=50_000)
    )


def read(results: Path, table: str) -> list[dict[str, Any]]:
    parts = sorted((results / table).glob("*.parquet"))
    if not parts:
        sys.exit(f"memsweep launch stored no part of {table}")
    rows: list[dict[str, Any]] = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist()
    return rows


def where_time_goes(ours: Launch) -> dict[str, float]:
    """Seconds of the command's wall time; those within packs are sums over packs divided by the concurrent workers."""
    ends = [pack["finished_at"].timestamp() for pack in ours.packs]
    begins = [end - pack["wall_seconds"] for end, pack in zip(ends, ours.packs, strict=True)]
    workers = max(sum(begin <= now < end for begin, end in zip(begins, ends, strict=True)) for now in begins)
    within = {part: sum(pack[f"{part}_seconds"] for pack in ours.packs) / workers for part in PACK_PARTS}
    packed = sum(pack["wall_seconds"] for pack in ours.packs) / workers
    return {
        "start, before the first pack": min(begins) - ours.began,
        **{f"packs: {part}": seconds for part, seconds in within.items()},
        "packs: other": packed - sum(within.values()),
        "workers without a pack": max(ends) - min(begins) - packed,
        "end, after the last pack": ours.ended - max(ends),
    }


def agreement(plain: list[tuple[plain_loop.Trial, dict[str, Any]]], ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean accuracies at each noise fraction of the sample, over the same weight decays and seeds on both sides.

    z: their difference over its standard error, from the spread over seeds; the two sides' seeds draw different data.
    """
    settings = {(rounded(trial.noise_fraction), rounded(trial.weight_decay)) for trial, _ in plain}
    same = [
        (plain_loop.Trial(row["data_noise_fraction"], row["regularization_weight_decay"], row["seed"]), row)
        for row in ours
        if row["seed"] in plain_loop.SEEDS
        and (rounded(row["data_noise_fraction"]), rounded(row["regularization_weight_decay"])) in settings
    ]
    rows = []
    for kind, count in (("validation", plain_loop.VALIDATION_COUNT), ("train", plain_loop.TRAIN_COUNT)):
        means = by_seed((trial, result[f"{kind}_correct"] / count) for trial, result in plain)
        our_means = by_seed((trial, row[f"{kind}_correct_count"] / row[f"{kind}_count"]) for trial, row in same)
        for fraction in sorted(means):
            theirs, mine = means[fraction], our_means[fraction]
            error = (statistics.variance(theirs) / len(theirs) + statistics.variance(mine) / len(mine)) ** 0.5
            difference = statistics.mean(mine) - statistics.mean(theirs)
            rows.append(
                {
                    "accuracy": kind,
                    "noise_fraction": fraction,
                    "plain_loop": statistics.mean(theirs),
                    "memsweep": statistics.mean(mine),
                    "difference": difference,
                    "standard_error": error,
                    "z": difference / max(error, 1e-9),
                }
            )
    return rows


def by_seed(accuracies: Iterable[tuple[plain_loop.Trial, float]]) -> dict[float, list[float]]:
    """Noise fraction -> one mean accuracy a seed."""
    groups: dict[float, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for trial, accuracy in accuracies:
        groups[rounded(trial.noise_fraction)][trial.seed].append(accuracy)
    return {fraction: [statistics.mean(group) for group in seeds.values()] for fraction, seeds in groups.items()}


def rounded(value: float) -> float:
    return float(f"{value:.6g}")


def target_of(work: str, how: str, who: str, cold: bool) -> float | None:
    """What memsweep's rate should be of theirs, at least, where something is asked."""
    return TARGETS.get((work, how, who), {}).get("cold" if cold else "warm")


def print_rates(
    work: str, wanted: int, rates: dict[str, float], ours: dict[str, float], targets: dict[str, dict[str, float]]
) -> None:
    """Theirs in rows; what memsweep is of each, by how far it goes, in columns, with the target where there is one."""
    print(f"{'who':24}{f'{work}, s':>11}{'':14}{'trials/s':>10}{''.join(f'{how:>24}' for how in ours)}")
    for who, rate in rates.items():
        print(f"{who:24}{wanted / rate:11.1f}   {'extrapolated':11}{rate:10.2f}", end="")
        for how, own in ours.items():
            target = targets[how].get(who)
            print(f"{f'{own / rate:.1f}x' + (f' (target {target:g}x)' if target else ''):>24}", end="")
        print()
    print(f"{'memsweep, s':59}{''.join(f'{wanted / own:24.1f}' for own in ours.values())}")


def print_tail(browsed: Launch) -> None:
    """What follows a launch, as `make demo` does it."""
    print(
        f"\nwith MLflow: launch {browsed.seconds:.1f} s, then report {browsed.reported - browsed.ended:.1f} s, "
        f"then waiting for MLflow {browsed.complete - browsed.reported:.1f} s"
    )


def print_parts(parts: dict[str, float], ours: Launch) -> None:
    print(f"\nwhere memsweep's {ours.seconds:.1f} s go ({len(ours.packs)} packs; program timed {ours.timed})")
    for part, seconds in parts.items():
        print(f"{part:32}{seconds:8.2f} s{seconds / ours.seconds:8.1%}")


def print_agreement(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'accuracy':12}{'noise':>6}{'plain loop':>12}{'memsweep':>10}{'difference':>12}{'error':>8}{'z':>7}")
    for row in rows:
        print(
            f"{row['accuracy']:12}{row['noise_fraction']:6.2f}{row['plain_loop']:12.4f}{row['memsweep']:10.4f}"
            f"{row['difference']:12.4f}{row['standard_error']:8.4f}{row['z']:7.2f}"
        )
    print(f"largest |z| {max(abs(row['z']) for row in rows):.2f}; above {CHANCE_Z} is unlikely to be chance")


if __name__ == "__main__":
    main()
