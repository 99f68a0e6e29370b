"""The tables: every column's name, type, unit and meaning. This is the only list of columns."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pyarrow as pa

from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.fields import FieldSpec


class Status(StrEnum):
    """How a trial ended."""

    FINISHED = "finished"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        """The sentence shown to people."""
        return _ADVICE[self]


_ADVICE = {
    Status.FINISHED: "Used its budget, or met its own stopping rule.",
    Status.PRUNED: "Ended early by the search.",
    Status.DIVERGED: "Its loss became infinite or undefined; lower optimizer.learning_rate.",
    Status.OUT_OF_MEMORY: "The device ran out of memory; launch again with fewer --members and --retry.",
    Status.FAILED: "An error ended it; mend its cause, then launch again with --retry.",
    Status.QUARANTINED: "It kept ending its worker; memsweep verify shows how; mend it, then launch with --retry.",
    Status.INTERRUPTED: "The launch was stopped first; launch again to finish it.",
}

SETTLED = (Status.FINISHED, Status.PRUNED, Status.DIVERGED)
"""Statuses of trials that are never run again."""
RETRIED = (Status.OUT_OF_MEMORY, Status.FAILED, Status.QUARANTINED)
"""Statuses of trials that run again only with --retry."""


def _column(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"meaning": meaning})


def _field_column(spec: FieldSpec) -> pa.Field:
    kind = {int: pa.int64(), float: pa.float64(), str: pa.string(), tuple: pa.string()}[spec.kind]
    return _column(spec.column, kind, spec.meaning)


def _targets(part: str) -> tuple[pa.Field, ...]:
    """Returns the columns of a data set that count the answers of sequence tasks.  part: train, validation or test."""
    return (
        _column(f"{part}_target_correct_count", pa.int64(), "answers of sequence tasks that are right; null: labels"),
        _column(f"{part}_target_count", pa.int64(), "answers that sequence tasks ask for"),
        _column(f"{part}_squared_error_sum", pa.float64(), "over the answers of tasks that ask for numbers"),
    )


_TRIAL = _column("trial_id", pa.string(), "hash of the trial's configuration")
_SETTING = _column("setting_id", pa.string(), "hash of the configuration without seeds")
_ATTEMPT = _column("attempt_id", pa.string(), "one execution of a pack; readers keep one attempt a trial")
_PACK = _column("pack_id", pa.string(), "hash of the pack's program and trials")

_COUNTS = [
    _column("train_correct_count", pa.int64(), "training examples whose given label is predicted"),
    _column("train_count", pa.int64(), "training examples"),
    _column(
        "train_loss_sum_nats",
        pa.float64(),
        "cross-entropy summed over training examples; of numbers, and if squared errors are trained on, half of these",
    ),
    _column("validation_correct_count", pa.int64(), "validation examples whose label is predicted"),
    _column("validation_count", pa.int64(), "validation examples"),
    _column("validation_loss_sum_nats", pa.float64(), "cross-entropy summed over validation examples"),
    _column("clean_correct_count", pa.int64(), "uncorrupted training examples whose label is predicted"),
    _column("clean_count", pa.int64(), "uncorrupted training examples"),
    _column("corrupted_correct_count", pa.int64(), "corrupted training examples whose given label is predicted"),
    _column("corrupted_count", pa.int64(), "training examples whose label or inputs really changed"),
    _column("memorized_count", pa.int64(), "training examples whose wrong label, as given, is predicted"),
    _column("recovered_count", pa.int64(), "training examples with a wrong label whose true label is predicted"),
    _column("label_changed_count", pa.int64(), "training examples whose given label is not the true one"),
    *_targets("train"),
    *_targets("validation"),
    _column(
        "gradient_norm", pa.float64(), "L2 norm of the minibatch gradient of the last step, before clipping and decay"
    ),
    _column("distance", pa.float64(), "L2, of weights from the first ones before model.perturbation; null: it is 0"),
]

SCHEMAS: dict[str, pa.Schema] = {
    "trials": pa.schema(
        [
            _TRIAL,
            _SETTING,
            _ATTEMPT,
            _column("status", pa.string(), "how it ended: " + ", ".join(Status)),
            _column("cause", pa.string(), "why it failed: the error, its traceback, and how to see it alone"),
            *(_field_column(spec) for spec in FIELDS.values()),
            _column("step_count", pa.int64(), "steps trained"),
            _column("fitted_step", pa.int64(), "first measured step at which stop.fit was met; null: never"),
            _column(
                "solved_step",
                pa.int64(),
                "first measured step at which a sequence task is solved; null: never, or no task",
            ),
            *_COUNTS,
            _column("test_correct_count", pa.int64(), "test examples whose label is predicted, at the end"),
            _column("test_count", pa.int64(), "test examples"),
            _column("test_loss_sum_nats", pa.float64(), "cross-entropy summed over test examples, at the end"),
            *_targets("test"),
            _column("input_count", pa.int64(), "inputs of an example (D)"),
            _column("class_count", pa.int64(), "classes (K)"),
            _column(
                "class_labels",
                pa.string(),
                "label that a task of one's own gives each class, in the order of the classes 0...K-1; null: the same",
            ),
            _column("parameter_count", pa.int64(), "trained parameters (P)"),
            _column("frozen_parameter_count", pa.int64(), "parameters that stay as the network made them, not in P"),
            _column("data_fingerprint", pa.string(), "hash of everything that training and evaluation read"),
            _column("weights_fingerprint", pa.string(), "hash of the final weights' bits"),
            _PACK,
            _column("deviation", pa.float64(), "as packs.deviation; null: not the member that was compared"),
            _column("wall_seconds", pa.float64(), "from entering the pack to leaving it"),
            _column("finished_at", pa.timestamp("us", tz="UTC"), "when it left the pack"),
            _column("host", pa.string(), "machine that trained it"),
            _column("memsweep_version", pa.string(), "version of memsweep"),
            _column("torch_version", pa.string(), "version of torch"),
        ]
    ),
    "steps": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("step", pa.int64(), "steps trained"),
            _column("epoch", pa.float64(), "passes over the training set"),
            *_COUNTS,
        ]
    ),
    "examples": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("example", pa.int64(), "position in the trial's training set"),
            _column("source_index", pa.int64(), "row of the task's pool"),
            _column("corrupted", pa.bool_(), "label or inputs really changed"),
            _column("given_label", pa.int64(), "label trained on, 0...K-1; class_labels of trials names these"),
            _column("true_label", pa.int64(), "label before corruption, likewise"),
            _column(
                "first_learned_step",
                pa.int64(),
                "first measured step at which the given label is predicted; null: never",
            ),
            _column(
                "forgotten_count", pa.int64(), "measurements at which it is wrong after being right at the one before"
            ),
            _column("final_loss_nats", pa.float64(), "cross-entropy of the given label at the last measurement"),
        ]
    ),
    "class_sensitivity": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("output_class", pa.int64(), "label whose part of the mean training loss is differentiated"),
            _column("input_class", pa.int64(), "given label of the training examples that it depends on"),
            _column(
                "gradient_l1",
                pa.float64(),
                "L1 norm of that derivative through training, mean over examples and steps; null: no such example",
            ),
            _column("example_count", pa.int64(), "training examples of the input class"),
        ]
    ),
    "critical_samples": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("step", pa.int64(), "steps trained when it was asked"),
            _column("part", pa.string(), "examples searched around: train, as given, or validation"),
            _column("radius_multiple", pa.float64(), "step, noise and box of the search, in the paper's"),
            _column("critical_count", pa.int64(), "examples near which an input is predicted otherwise"),
            _column("example_count", pa.int64(), "of so many"),
        ]
    ),
    "loss_sensitivity": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("step", pa.int64(), "steps trained; an example's sensitivity is the mean over steps up to here"),
            _column("example_count", pa.int64(), "training examples"),
            _column(
                "mean_l1",
                pa.float64(),
                "mean over examples of the L1 norm of the mean training loss's derivative with respect to the "
                "example's inputs, through all steps of training",
            ),
            *(
                _column(f"gini_{norm}", pa.float64(), f"Gini coefficient over examples, {name} norm; null: all are 0")
                for norm, name in (("l1", "L1"), ("l2", "L2"), ("max", "largest"))
            ),
        ]
    ),
    "permutations": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("step", pa.int64(), "steps trained when it was asked"),
            _column("features", pa.string(), "hidden: last hidden layer; inputs: the inputs themselves, at step 0"),
            _column("validation", pa.string(), "noisy copies of training examples, or held_out: validation examples"),
            _column("rho", pa.float64(), "correlation of copies with what they copy; null: held out"),
            _column("observed_auc", pa.float64(), "of a classifier of the labels: as trained on; held out: true ones"),
            _column("null_median", pa.float64(), "median over classifiers of permuted labels"),
            _column("null_low", pa.float64(), "their 5 % quantile"),
            _column("null_high", pa.float64(), "their 95 % quantile"),
            _column("independent_median", pa.float64(), "median where the labels to tell are permuted otherwise"),
            _column("floor_auc", pa.float64(), "null_median of features that tell the class alone; held out: 0.5"),
            _column("variance", pa.float64(), "of one area under the curve if scores tell nothing"),
            _column("p_learn", pa.float64(), "share of permuted labels told as well as the labels, these included"),
            _column("p_memorize", pa.float64(), "p-value of null_median above floor_auc"),
            _column("p_chance", pa.float64(), "p_learn where one permutation takes the place of the labels"),
        ]
    ),
    "positions": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column(
                "position", pa.int64(), "step of the sequence, from 0, at which validation data asks for something"
            ),
            _column("target_correct_count", pa.int64(), "answers that are right, at the end"),
            _column("target_count", pa.int64(), "answers asked for"),
            _column("loss_sum_nats", pa.float64(), "cross-entropy summed over them; of numbers half the squared error"),
        ]
    ),
    "jacobians": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("layer", pa.int64(), "recurrent layers from 1 on"),
            _column(
                "square_sum",
                pa.float64(),
                "squared entries, summed, of the Jacobians of a step's state by the one before, gates held, on "
                "validation data at the end",
            ),
            _column("off_diagonal_square_sum", pa.float64(), "of those off the diagonal"),
            _column("matrix_count", pa.int64(), "Jacobians: of each sequence, at all steps but the first"),
        ]
    ),
    "readouts": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("item", pa.int64(), "which symbol to copy, from 0: it is shown at that step"),
            _column(
                "fitted_step", pa.int64(), "step whose hidden states a linear classifier of the symbol was fitted on"
            ),
            _column("applied_step", pa.int64(), "step whose hidden states it was applied to"),
            _column("correct_count", pa.int64(), "validation examples, not fitted on, of which it tells the symbol"),
            _column("example_count", pa.int64(), "of so many"),
        ]
    ),
    "representations": pa.schema(
        [
            _TRIAL,
            _ATTEMPT,
            _column("step", pa.int64(), "steps trained when it was asked"),
            _column("part", pa.string(), "examples asked about: the first ones of train, or of validation"),
            _column("quantity", pa.string(), "hidden, logits, or gradient: of the predicted class's logit, by inputs"),
            _column("layer", pa.int64(), "hidden layers from 1 on, logits behind them; inputs are 0"),
            _column("width", pa.int64(), "numbers of an example; hidden layers of images are averaged over places"),
            _column("numbers", pa.list_(pa.float32()), "of each example in turn"),
        ]
    ),
    "packs": pa.schema(
        [
            _ATTEMPT,
            _PACK,
            _column("program", pa.string(), "what all members share, as field=value"),
            _column("members", pa.int64(), "trials of the pack"),
            _column("slots", pa.int64(), "members trained at a time"),
            _column("settled_count", pa.int64(), "members that this attempt settled"),
            _column("device", pa.string(), "cpu or cuda"),
            _column("device_name", pa.string(), "processor or accelerator"),
            _column("thread_count", pa.int64(), "intra-op threads of the worker"),
            _column("mode", pa.string(), "how it ran: fused, or serial: members in turn"),
            _column("compiled", pa.bool_(), "by torch.compile"),
            _column("member_step_count", pa.int64(), "optimizer steps, summed over members"),
            _column(
                "start_seconds", pa.float64(), "loading data, first weights, and trying a tiny pack (program_deviation)"
            ),
            _column("compile_seconds", pa.float64(), "compiling"),
            _column("train_seconds", pa.float64(), "optimizer steps"),
            _column("evaluate_seconds", pa.float64(), "measurements"),
            _column("probe_seconds", pa.float64(), "probes; null: before they were timed"),
            _column("write_seconds", pa.float64(), "writing parts"),
            _column("compare_seconds", pa.float64(), "running a member again, alone"),
            _column("wall_seconds", pa.float64(), "whole pack"),
            _column("peak_memory_bytes", pa.int64(), "largest memory of the worker process, or of the device on cuda"),
            _column("cause", pa.string(), "what went wrong without ending a trial, such as memory that ran out"),
            _column(
                "deviation",
                pa.float64(),
                "of one member from its run alone, as far as a tenth of the pack's time takes it: the largest of "
                "measurements, relative, and final weights, absolute; 0: equal to the bit; null: not compared",
            ),
            _column(
                "program_deviation",
                pa.float64(),
                "of a tiny pack of its program from its members alone, after a few steps: the largest of weights, "
                "absolute, and losses in evaluation, relative; 0: equal to the bit; null: not checked",
            ),
            _column("finished_at", pa.timestamp("us", tz="UTC"), "when it ended"),
            _column("host", pa.string(), "machine"),
            _column(
                "memsweep_commit", pa.string(), "commit of memsweep's checkout, -dirty if changed; null: no checkout"
            ),
        ]
    ),
    "wanted": pa.schema(
        [
            _column("sweep", pa.string(), "name of the sweep"),
            _TRIAL,
            _SETTING,
            _column("position", pa.int64(), "place in the sweep's grid"),
            _column("seed", pa.int64(), "replicate"),
            _column("search", pa.string(), "name of the sweep's search; null: none, all trials at once"),
            _column("search_fields", pa.string(), "what it looks for, as JSON"),
            _column("round", pa.int64(), "of the search, in which the trial was first asked for, from 1"),
            _column("probes", pa.string(), "tables wanted beside trials and steps"),
            _column("configuration", pa.string(), "every field, as JSON"),
            _column(
                "launch_id",
                pa.string(),
                "launch that made the sweep want it: hash of all that it wants, then its own; null: an older version's",
            ),
            _column(
                "launched_at", pa.timestamp("us", tz="UTC"), "when that launch began; the newest of a sweep counts"
            ),
            _column(
                "launch_rows",
                pa.int64(),
                "rows of that launch, up to this one's round; where fewer are stored, the row does not count",
            ),
        ]
    ),
}

ROWS = {
    "trials": "a trial: its fields (`data.noise_fraction` is `data_noise_fraction`), how it ended, counts at the end",
    "steps": "a trial and measurement: counts, losses, gradient norm",
    "examples": "a trial and training example: corrupted, labels, learned, forgotten, loss",
    "class_sensitivity": "a trial, a class of the loss and one of the inputs: how the one depends on the other",
    "critical_samples": "a trial, a step, a part and a box: how many examples have an input near them that is "
    "predicted otherwise",
    "loss_sensitivity": "a trial and step: how much, and how unequally, the loss depends on training examples",
    "permutations": "a trial, a step, features and a validation set: how well a linear classifier of these tells "
    "labels, and permuted ones",
    "positions": "a trial and step of a sequence at which something is asked: recall and loss there",
    "jacobians": "a trial and recurrent layer: how much dimensions of the state mix from step to step, gates held",
    "readouts": "a trial of `copy`, a symbol, the step that a linear read-out of it was fitted at, and one that it was "
    "applied at",
    "representations": "a trial, a step, a part, and hidden layers, logits or input gradients: those of the same 200 "
    "examples, in a list",
    "packs": "an execution of a pack: members, device, seconds by purpose, memory",
    "wanted": "a trial that a sweep wants, by its last launch",
}
"""Table -> meaning of one row."""

NUMBERS = tuple(
    column.name for column in SCHEMAS["trials"] if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
)
"""Numeric columns of `trials`, which a search may use as objective."""
_REPRODUCTION = "To see it alone: memsweep verify "


def reproduction(trial: TrialConfig, results: Any) -> str:
    """Returns the last line of a failed trial's cause: the command that runs the trial alone."""
    return f"{_REPRODUCTION}{trial.trial_id} --results {results}" + " --own-code" * bool(trial.imports)


def error_line(cause: str | None) -> str:
    """Returns the line of a cause that names the error: the last line of its traceback."""
    lines = [line for line in (cause or "").splitlines() if line.strip() and not line.startswith(_REPRODUCTION)]
    return lines[-1] if lines else "no cause"


def cell(value: Any) -> Any:
    """Returns a field's value as tables store it: a tuple becomes text, joined by commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
