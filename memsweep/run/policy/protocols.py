"""The protocol of a trial's numbers where it depends on a user's code or data; trials stored under older protocols.

The fields of built-in trials determine the protocol (`mends.MENDS`). A user's network or task is examined once for all
trials with the same network or task.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from memsweep.data import tasks
from memsweep.results import trial_state
from memsweep.results.status import older_protocol
from memsweep.results.storage.store import Store
from memsweep.run.policy import isolation
from memsweep.spec.config import TrialConfig, imported, trial_id_of
from memsweep.spec.contents import content_of, has_content
from memsweep.spec.fields.own import NO_FIELDS, OwnFields, takes_own
from memsweep.spec.mends import UNEVEN, has_uneven_layer
from memsweep.spec.options import FAMILIES


class Examiner(NamedTuple):
    """One mend that concerns trials of a user's network or task."""

    protocol: int  # the first that has the fix
    key: Callable[[TrialConfig], Hashable]  # what the reason depends on; None: the mend does not concern the trial
    reason: Callable[[TrialConfig], str]  # why its numbers differ from older protocols; "": they do not


def _network(trial: TrialConfig) -> Hashable:
    """Returns the key of a user's network; None: the network is built in."""
    return (trial.model, _own_values(trial), *tasks.shape(trial)) if trial.model.family not in FAMILIES else None


def _own_values(trial: TrialConfig) -> OwnFields:
    """Returns the own hyperparameters that a user's network is given."""
    return trial.own if trial.own and takes_own(imported(trial.model.family)) else NO_FIELDS


def _frozen_parameters(trial: TrialConfig) -> str:
    names = isolation.evaluate("memsweep.engine.nn.models:frozen_names", trial)
    return f"its network has frozen parameters, which were trained: {', '.join(names)}" if names else ""


def _products(trial: TrialConfig) -> Hashable:
    """Returns the key of the products of a user's network, or of an MLP on a user's task; None: neither."""
    if trial.model.family in FAMILIES and not (trial.model.family == "mlp" and tasks.is_custom(trial)):
        return None
    values = NO_FIELDS if trial.model.family in FAMILIES else _own_values(trial)
    return (trial.model, values, *tasks.shape(trial), trial.optimizer.batch_size, trial.compute.dtype)


def _unevenness(trial: TrialConfig) -> str:
    if trial.model.family == "mlp":
        rows, dtype = trial.optimizer.batch_size, trial.compute.dtype
        is_uneven = has_uneven_layer(*tasks.shape(trial), trial.model.width, trial.model.depth, rows, dtype)
    else:
        is_uneven = bool(isolation.evaluate("memsweep.engine.nn.models:is_network_uneven", trial))
    return UNEVEN if is_uneven else ""


def _buffers(trial: TrialConfig) -> Hashable:
    """Returns the key of what happens to the buffers of a user's network; None: the network is built in."""
    key = _network(trial)
    return key and (key, trial.optimizer.batch_size, trial.compute.dtype, trial.optimizer.name == "sam")


def _replaced_buffers(trial: TrialConfig) -> str:
    replaced, handed = isolation.evaluate("memsweep.engine.train.program:replaced_names", trial) or ([], [])
    if handed:
        return f"its network gives a buffer the tensor of another, which was overwritten: {', '.join(handed)}"
    if replaced and trial.optimizer.name == "sam":
        return f"its network replaces tensors, which SAM's second pass changed: {', '.join(replaced)}"
    return ""


EXAMINERS: tuple[Examiner, ...] = (
    Examiner(
        2,
        lambda trial: tasks.renumbers_labels(trial) or None,
        lambda trial: "its task has labels other than 0...K-1, which are renumbered",
    ),
    Examiner(2, _network, _frozen_parameters),
    Examiner(2, _products, _unevenness),
    Examiner(3, _buffers, _replaced_buffers),
)
_reasons: dict[tuple[Examiner, Hashable], str] = {}


def current(trial: TrialConfig) -> TrialConfig:
    """Returns the trial under this version's protocol, and with the hash of its data's content.

    A trial with an explicit protocol keeps it, and a trial with an explicit content keeps that.
    """
    if has_content(trial.data.task) and not trial.data.content:
        trial = trial.with_fields({"data.content": content_of(trial.data.task)})
    if trial.protocol is not None or not trial.imports:
        return trial
    number = max((e.protocol for e in EXAMINERS if _reason(e, trial)), default=1)
    return trial.with_fields({"protocol": number}) if number > _number(trial) else trial


def is_older(trial: TrialConfig) -> bool:
    """Returns whether the trial names a protocol whose numbers this version no longer computes."""
    return trial.protocol is not None and trial.protocol < _current_number(trial)


def problems(trials: Iterable[TrialConfig]) -> Iterator[str]:
    """Yields a sentence for each protocol named by trials that this version can't train."""
    older = (trial for trial in trials if is_older(trial))
    for number, newer in sorted({(trial.protocol or 0, _current_number(trial)) for trial in older}):
        yield (
            f"protocol = {number}: this version gives other numbers for these fields, and stores them as protocol "
            f"{newer}. Leave protocol unset; stored trials stay readable."
        )


def remark(trials: Sequence[TrialConfig], store: Store | None) -> str:
    """Returns a sentence on how many of these trials are settled under an older protocol; empty: no trial."""
    ends = store.ends() if store is not None else {}
    count = 0
    for trial in trials if ends else ():
        fields = trial.flat()
        older = (trial_id_of({**fields, "protocol": number}) for number in range(1, fields["protocol"]))
        count += any(trial_id in ends and trial_state.is_settled(ends[trial_id][0]) for trial_id in older)
    return older_protocol(count)


def _current_number(trial: TrialConfig) -> int:
    """Returns the protocol of a trial's fields in this version."""
    return _number(current(replace(trial, protocol=None)))


def _number(trial: TrialConfig) -> int:
    number: int = trial.flat()["protocol"]
    return number


def _reason(examiner: Examiner, trial: TrialConfig) -> str:
    """Returns the examiner's reason; empty where the user's code or data fails, which the launch reports."""
    try:
        key = examiner.key(trial)
        if key is None:
            return ""
        if (examiner, key) not in _reasons:
            _reasons[examiner, key] = examiner.reason(trial)
    except Exception:
        return ""
    return _reasons[examiner, key]
