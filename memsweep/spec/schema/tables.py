"""The tables: every column's name, type, unit and meaning. The tables of probes are in `probes.py`."""

from __future__ import annotations

import pyarrow as pa

from memsweep.spec.config import FIELDS
from memsweep.spec.schema.columns import ATTEMPT, COUNTS, PACK, SETTING, TRIAL, column, field_column, target_columns
from memsweep.spec.schema.probes import PROBE_SCHEMAS
from memsweep.spec.schema.statuses import Status

MEASUREMENT = (
    TRIAL,
    ATTEMPT,
    column("step", pa.int64(), "steps trained"),
    column("epoch", pa.float64(), "passes over the training set"),
    *COUNTS,
)

SCHEMAS: dict[str, pa.Schema] = {
    "trials": pa.schema(
        [
            TRIAL,
            SETTING,
            ATTEMPT,
            column("status", pa.string(), "how it ended: " + ", ".join(Status)),
            column("cause", pa.string(), "why it failed: the error, its traceback, and how to see it alone"),
            *(field_column(spec) for spec in FIELDS.values()),
            column("step_count", pa.int64(), "steps trained"),
            column("fitted_step", pa.int64(), "first measured step at which stop.fit was met; null: never"),
            column(
                "solved_step",
                pa.int64(),
                "first measured step at which a sequence task is solved; null: never, or no task",
            ),
            *COUNTS,
            column("test_correct_count", pa.int64(), "test examples whose label is predicted, at the end"),
            column("test_count", pa.int64(), "test examples"),
            column("test_loss_sum_nats", pa.float64(), "cross-entropy summed over test examples, at the end"),
            *target_columns("test"),
            column("input_count", pa.int64(), "inputs of an example (D)"),
            column("class_count", pa.int64(), "classes (K)"),
            column(
                "class_labels",
                pa.string(),
                "label of each class in a user's task, in the order of the classes 0...K-1; null: the same",
            ),
            column("parameter_count", pa.int64(), "trained parameters (P)"),
            column("frozen_parameter_count", pa.int64(), "parameters that stay as the network made them, not in P"),
            column("data_fingerprint", pa.string(), "hash of everything that training and evaluation read"),
            column("weights_fingerprint", pa.string(), "hash of the final weights' bits"),
            PACK,
            column("deviation", pa.float64(), "as packs.deviation; null: not the member that was compared"),
            column("wall_seconds", pa.float64(), "from entering the pack to leaving it"),
            column("finished_at", pa.timestamp("us", tz="UTC"), "when it left the pack"),
            column("host", pa.string(), "machine that trained it"),
            column("memsweep_version", pa.string(), "version of memsweep"),
            column("torch_version", pa.string(), "version of torch"),
            column(
                "code_fingerprint",
                pa.string(),
                "hash of the user's code that it ran; null: no such code, or an older version's",
            ),
            column("code_commit", pa.string(), "commit of that code, -dirty if files differ; null: no checkout"),
            column("code_packages", pa.string(), "installed packages that it imports: name==version"),
        ]
    ),
    "steps": pa.schema(
        [
            *MEASUREMENT,
            column("is_live", pa.bool_(), "the trial is in training; its rows are replaced when it ends or runs again"),
        ]
    ),
    "live": pa.schema([*MEASUREMENT, column("begun_at", pa.timestamp("us", tz="UTC"), "when this training began")]),
    "metrics": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained"),
            column("part", pa.string(), "examples that it was computed on: train, as given, or validation"),
            column("metric", pa.string(), "import path of the user's function, as the field metrics names it"),
            column("name", pa.string(), "key in the function's result"),
            column("value", pa.float64(), "its value; null: not finite"),
        ]
    ),
    "examples": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("example", pa.int64(), "position in the trial's training set"),
            column("source_index", pa.int64(), "row of the task's pool"),
            column("corrupted", pa.bool_(), "label or inputs really changed"),
            column(
                "given_label", pa.int64(), "label trained on, 0...K-1; class_labels of trials gives the task's labels"
            ),
            column("true_label", pa.int64(), "label before corruption, 0...K-1"),
            column(
                "first_learned_step",
                pa.int64(),
                "first measured step at which the given label is predicted; null: never",
            ),
            column(
                "forgotten_count",
                pa.int64(),
                "measurements at which it is wrong after being right at the measurement before",
            ),
            column("final_loss_nats", pa.float64(), "cross-entropy of the given label at the last measurement"),
        ]
    ),
    **PROBE_SCHEMAS,
    "packs": pa.schema(
        [
            ATTEMPT,
            PACK,
            column("program", pa.string(), "what all members share, as field=value"),
            column("members", pa.int64(), "trials of the pack"),
            column("slots", pa.int64(), "members trained at a time"),
            column("settled_count", pa.int64(), "members that this attempt settled"),
            column("device", pa.string(), "cpu or cuda"),
            column("device_name", pa.string(), "processor and its instructions, or accelerator"),
            column("thread_count", pa.int64(), "intra-op threads of the worker"),
            column("mode", pa.string(), "how it ran: fused, or serial: members in turn"),
            column("compiled", pa.bool_(), "by torch.compile"),
            column("member_step_count", pa.int64(), "optimizer steps, summed over members"),
            column("graph_step_count", pa.int64(), "of these, by CUDA graphs; null: before there were graphs"),
            column(
                "start_seconds", pa.float64(), "loading data, first weights, and trying a tiny pack (program_deviation)"
            ),
            column("compile_seconds", pa.float64(), "compiling"),
            column("train_seconds", pa.float64(), "optimizer steps"),
            column("evaluate_seconds", pa.float64(), "measurements"),
            column("probe_seconds", pa.float64(), "probes; null: before they were timed"),
            column("write_seconds", pa.float64(), "writing parts"),
            column("compare_seconds", pa.float64(), "running a member again, alone"),
            column("wall_seconds", pa.float64(), "whole pack"),
            column("peak_memory_bytes", pa.int64(), "largest memory of the worker process, or of the device on cuda"),
            column("cause", pa.string(), "a problem that ended no trial, such as memory that ran out"),
            column(
                "deviation",
                pa.float64(),
                "of one member from its run alone, as far as a tenth of the pack's time takes it: the largest of "
                "measurements, relative, and final weights, absolute; 0: equal to the bit; null: not compared",
            ),
            column(
                "program_deviation",
                pa.float64(),
                "of a tiny pack of its program from its members alone, after a few steps: the largest of weights, "
                "absolute, and losses in evaluation, relative; 0: equal to the bit; null: not checked",
            ),
            column("finished_at", pa.timestamp("us", tz="UTC"), "when it ended"),
            column("host", pa.string(), "machine"),
            column(
                "memsweep_commit", pa.string(), "commit of memsweep's checkout, -dirty if changed; null: no checkout"
            ),
        ]
    ),
    "wanted": pa.schema(
        [
            column("sweep", pa.string(), "name of the sweep"),
            TRIAL,
            SETTING,
            column("position", pa.int64(), "place in the sweep's grid"),
            column("seed", pa.int64(), "replicate"),
            column("search", pa.string(), "name of the sweep's search; null: no search, all trials at once"),
            column("search_fields", pa.string(), "parameters of the search, as JSON"),
            column("round", pa.int64(), "round of the search that first requested the trial, from 1"),
            column("probes", pa.string(), "tables wanted beside trials and steps"),
            column("metrics", pa.string(), "functions wanted in the table metrics; null: before there were any"),
            column("configuration", pa.string(), "every field, as JSON"),
            column(
                "launch_id",
                pa.string(),
                "launch that wanted the trial: hash of all wanted trials, then of the launch; null: an older version's",
            ),
            column("launched_at", pa.timestamp("us", tz="UTC"), "when that launch began; the newest of a sweep counts"),
            column(
                "launch_rows",
                pa.int64(),
                "rows of that launch up to the row's round; where fewer are stored, the row does not count",
            ),
            column(
                "code_fingerprints",
                pa.string(),
                "code whose results count for the sweep, as trials.code_fingerprint, joined by commas; null: any code",
            ),
        ]
    ),
    "launches": pa.schema(
        [
            column("launch", pa.string(), "random name of the launch"),
            column("launched_at", pa.timestamp("us", tz="UTC"), "when it began"),
            column("sweeps", pa.string(), "its sweeps, joined by commas"),
            column("command", pa.string(), "command line, without passwords"),
            column("host", pa.string(), "machine"),
            column("memsweep_version", pa.string(), "version of memsweep"),
            column("python_version", pa.string(), "version of Python"),
            column("packages", pa.string(), "installed packages: name==version, a line each"),
            column("sweep_files", pa.string(), "text of each sweep file, as JSON: path -> text"),
            column("code", pa.string(), "definitions of the user's code, as JSON: fingerprint -> name -> hash"),
            column("code_commit", pa.string(), "commit of the user's code, -dirty if files differ; null: no checkout"),
            column("code_diff", pa.string(), "difference of the user's tree from its commit, up to 256 KiB"),
        ]
    ),
    "notes": pa.schema(
        [
            column("sweep", pa.string(), "name of the sweep"),
            column("action", pa.string(), "note, tag, untag, rename, or clear: what came before does not count"),
            column("text", pa.string(), "the note, the tag, or the new name"),
            column("noted_at", pa.timestamp("us", tz="UTC"), "when; the last tag or untag of a text counts"),
        ]
    ),
    "forgotten": pa.schema(
        [
            column("sweep", pa.string(), "name of the sweep"),
            column("launch_id", pa.string(), "as wanted.launch_id"),
            column("forgotten_at", pa.timestamp("us", tz="UTC"), "when"),
        ]
    ),
}

ROWS = {
    "trials": "a trial: its fields (`data.noise_fraction` is `data_noise_fraction`, and after the columns below each "
    "`own.x` is `own_x`), how it ended, counts at the end",
    "steps": "a trial and measurement: counts, losses, gradient norm",
    "live": "a measurement of a trial in training; `steps` has the newest training of each",
    "metrics": "a trial, a measurement, a part of the data, and a value that a user's function computed of it",
    "examples": "a trial and training example: corrupted, labels, learned, forgotten, loss",
    "class_sensitivity": "a trial, a class of the loss and a class of the inputs: how the loss depends on the inputs",
    "critical_samples": "a trial, a step, a part and a box: how many examples have an input near them that is "
    "predicted differently",
    "exposure": "a trial, a step and a training string with a number of repeats: how many unseen strings are likelier",
    "loss_sensitivity": "a trial and step: how much, and how unequally, the loss depends on training examples",
    "memorization": "a trial on a subset, and an example of its pool, validation or test set: whether it was trained "
    "on, and is right",
    "permutations": "a trial, a step, features and a validation set: how well a linear classifier predicts "
    "labels, and permuted labels",
    "positions": "a trial and a step of a sequence that has a target: recall and loss there",
    "jacobians": "a trial and recurrent layer: how much dimensions of the state mix from step to step, gates constant",
    "readouts": "a trial of `copy`, a symbol, the step at which a linear read-out was fitted, and a step at which it "
    "was applied",
    "representations": "a trial, a step, a set, and hidden layers, logits or input gradients of the same 200 "
    "examples, in a list",
    "states": "a trial whose state of training is kept, from which a longer trial goes on: where it is",
    "weights": "a trial and a step whose weights are kept: where they are",
    "packs": "an execution of a pack: members, device, seconds by purpose, memory",
    "wanted": "a trial that a sweep wants, by its last launch",
    "launches": "a launch: its command, versions, and the user's code",
    "notes": "a note or a tag on a sweep, by `memsweep note`",
    "forgotten": "a launch whose rows of `wanted` no longer count, by `memsweep forget` or `memsweep rename`",
}
"""Table -> meaning of one row."""

NUMBERS = tuple(
    column.name for column in SCHEMAS["trials"] if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
)
"""Numeric columns of `trials`, which a search may use as objective."""
