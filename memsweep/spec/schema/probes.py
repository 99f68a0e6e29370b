"""The tables of probes: every column's name, type, unit and meaning."""

from __future__ import annotations

import pyarrow as pa

from memsweep.spec.schema.columns import ATTEMPT, TRIAL, column

PROBE_SCHEMAS: dict[str, pa.Schema] = {
    "class_sensitivity": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("output_class", pa.int64(), "label whose part of the mean training loss is differentiated"),
            column("input_class", pa.int64(), "given label of the training examples that it depends on"),
            column(
                "gradient_l1",
                pa.float64(),
                "L1 norm of that derivative through training, mean over examples and steps; null: no such example",
            ),
            column("example_count", pa.int64(), "training examples of the input class"),
        ]
    ),
    "critical_samples": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained when the probe ran"),
            column("part", pa.string(), "examples searched around: train, as given, or validation"),
            column("radius_multiple", pa.float64(), "step, noise and box of the search, in the paper's"),
            column("critical_count", pa.int64(), "examples near which an input is predicted differently"),
            column("example_count", pa.int64(), "examples in total"),
        ]
    ),
    "exposure": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained when the probe ran"),
            column("example", pa.int64(), "place of the canary in the training set, from 0"),
            column("repeat_count", pa.int64(), "how often the canary is in the training set"),
            column("loss_nats", pa.float64(), "cross-entropy summed over its tokens"),
            column("likelier_count", pa.int64(), "candidates whose cross-entropy is at most that of the canary"),
            column("candidate_count", pa.int64(), "validation strings, which are drawn alike and never trained on"),
        ]
    ),
    "loss_sensitivity": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained; an example's sensitivity is the mean over steps up to here"),
            column("example_count", pa.int64(), "training examples"),
            column(
                "mean_l1",
                pa.float64(),
                "mean over examples of the L1 norm of the mean training loss's derivative with respect to the "
                "example's inputs, through all steps of training",
            ),
            *(
                column(f"gini_{norm}", pa.float64(), f"Gini coefficient over examples, {name} norm; null: all are 0")
                for norm, name in (("l1", "L1"), ("l2", "L2"), ("max", "largest"))
            ),
        ]
    ),
    "memorization": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("part", pa.string(), "pool: all examples that subsets are drawn from; validation; test"),
            column("example", pa.int64(), "place in that part, from 0; the same in all trials that share the pool"),
            column("source_index", pa.int64(), "row of the task's data, as in `examples`; null outside of the pool"),
            column("is_trained", pa.bool_(), "whether the trial trained on it; false outside of the pool"),
            column("is_right", pa.bool_(), "whether its given label is predicted at the end"),
            column("corrupted", pa.bool_(), "whether noise really changed its label or inputs"),
            column("given_label", pa.int64(), "label as given in training; outside of the pool the true one"),
            column("true_label", pa.int64(), "label before corruption"),
        ]
    ),
    "permutations": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained when the probe ran"),
            column("features", pa.string(), "hidden: last hidden layer; inputs: the inputs themselves, at step 0"),
            column("validation", pa.string(), "noisy copies of training examples, or held_out: validation examples"),
            column("rho", pa.float64(), "correlation of copies with what they copy; null: held out"),
            column("observed_auc", pa.float64(), "of a classifier of the labels: as trained on; held out: true ones"),
            column("null_median", pa.float64(), "median over classifiers of permuted labels"),
            column("null_low", pa.float64(), "their 5 % quantile"),
            column("null_high", pa.float64(), "their 95 % quantile"),
            column("independent_median", pa.float64(), "median where validation labels have another permutation"),
            column("floor_auc", pa.float64(), "null_median of features that encode only the class; held out: 0.5"),
            column("variance", pa.float64(), "variance of one area under the curve if scores are uninformative"),
            column(
                "p_learn", pa.float64(), "share of permutations, with the labels themselves, that reach observed_auc"
            ),
            column(
                "median_variance",
                pa.float64(),
                "variance of independent_median, and held out of null_median, if scores are uninformative",
            ),
            column(
                "p_beyond_class",
                pa.float64(),
                "p-value that copies are recognized beyond their class: against copies exchanged among examples of the "
                "same given and true label; null: held out",
            ),
            column("p_chance", pa.float64(), "p_learn where one permutation takes the place of the labels"),
        ]
    ),
    "positions": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("position", pa.int64(), "step of the sequence, from 0, at which validation data has a target"),
            column("target_correct_count", pa.int64(), "correct answers at the end"),
            column("target_count", pa.int64(), "targets"),
            column("loss_sum_nats", pa.float64(), "cross-entropy summed over them; of numbers half the squared error"),
        ]
    ),
    "jacobians": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("layer", pa.int64(), "recurrent layers from 1 on"),
            column(
                "square_sum",
                pa.float64(),
                "squared entries, summed, of the Jacobians of a step's state by the previous state, gates constant, on "
                "validation data at the end",
            ),
            column("off_diagonal_square_sum", pa.float64(), "the same sum over entries off the diagonal"),
            column("matrix_count", pa.int64(), "Jacobians: of each sequence, at all steps but the first"),
        ]
    ),
    "readouts": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("item", pa.int64(), "which symbol to copy, from 0: it is shown at that step"),
            column(
                "fitted_step", pa.int64(), "step whose hidden states a linear classifier of the symbol was fitted on"
            ),
            column("applied_step", pa.int64(), "step whose hidden states it was applied to"),
            column("correct_count", pa.int64(), "validation examples outside the fit whose symbol it predicts"),
            column("example_count", pa.int64(), "examples in total"),
        ]
    ),
    "representations": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained when the probe ran"),
            column("part", pa.string(), "set whose first examples are used: train or validation"),
            column("quantity", pa.string(), "hidden, logits, or gradient: of the predicted class's logit, by inputs"),
            column("layer", pa.int64(), "hidden layers from 1 on, logits behind them; inputs are 0"),
            column("width", pa.int64(), "numbers of an example; hidden layers of images are averaged over places"),
            column("numbers", pa.list_(pa.float32()), "of each example in turn"),
        ]
    ),
    "states": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained: the trial's whole budget"),
            column("lineage", pa.string(), "hash of the trial's fields but those of its budget"),
            column("execution", pa.string(), "how it was trained, as JSON: versions, device, program, user's code"),
            column("file", pa.string(), "name of the file in kept_states/, without suffix"),
            column("byte_count", pa.int64(), "size of its part of the file"),
        ]
    ),
    "weights": pa.schema(
        [
            TRIAL,
            ATTEMPT,
            column("step", pa.int64(), "steps trained when the weights were kept"),
            column("file", pa.string(), "name of the file in networks/, without suffix"),
            column("position", pa.int64(), "place of the network in the file's tensors"),
            column("byte_count", pa.int64(), "size of its weights and buffers"),
            column("weights_fingerprint", pa.string(), "hash of their bits; of the last step: that of `trials`"),
        ]
    ),
}
