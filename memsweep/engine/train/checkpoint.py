"""The state of a pack as one safetensors file: the values that training changes, and JSON. Independent of folders.

Random numbers are functions of a member's key and step, so the step is the position of all its streams.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from memsweep.engine.train import own_optimizers
from memsweep.engine.train.program import Program
from memsweep.engine.train.record import Point, Record
from memsweep.engine.train.state import History, State, fitted_to, map_tensors
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import REPEATED_PROBES
from memsweep.spec.schema import own_probes

REBUILT = ("members", "step", "examples", "coefficients", "strengths", "own", "origins", "order_keys", "noise_keys")
"""Fields of a state that follow from the trials and `step`; all others are saved."""


class CheckpointError(Exception):
    """A checkpoint can't be used; the message says why."""


def dump(state: State, records: Sequence[Record], note: Mapping[str, Any]) -> bytes:
    """Returns the content of a checkpoint.  records: [M].  note: the caller's fields of the header."""
    tensors = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in _changed(state).items()}
    tensors["step"] = torch.from_numpy(state.step.copy())
    tensors |= _packed([record.curve for record in records])
    if optimizers := [member.optimizer for member in state.members if member.optimizer]:
        tensors["optimizers"] = to_bytes(list(map(own_optimizers.saved, optimizers)))
    text = json.dumps([record.probed for record in records], separators=(",", ":"))
    tensors["probed"] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    members = [member.trial.trial_id for member in state.members]
    data = [member.data.fingerprint for member in state.members]
    header = {**note, "members": members, "data": data, "steps": state.step.tolist(), "digest": _digest(tensors)}
    return save(tensors, {"memsweep": json.dumps(header, separators=(",", ":"))})


def restore(
    program: Program, state: State, content: bytes, names: Mapping[str, str] = MappingProxyType({})
) -> tuple[State, dict[str, Record]]:
    """Returns the state with every member at its step in the checkpoint, if that is later, and records by trial.

    A member whose metrics or probes the checkpoint lacks stays as it is, since it must be measured from its first step
    on.

    state: from `init` or `admit`; its memory may be reused.  names: trial -> the trial in the checkpoint that it goes
    on from; default: itself.
    Raises CheckpointError when the content is damaged, of another program, or of other data.
    """
    members, data, tensors = _read(content)
    sources_of = [names.get(member.trial.trial_id, member.trial.trial_id) for member in state.members]
    if any(
        data.get(s, m.data.fingerprint) != m.data.fingerprint for s, m in zip(sources_of, state.members, strict=True)
    ):
        raise CheckpointError("its trials were trained on data that their task no longer returns")
    try:
        probed = json.loads(tensors["probed"].numpy().tobytes())
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"it is of another program ({error})") from error
    records = [Record(*pair) for pair in zip(_unpacked(tensors), probed, strict=True)]
    steps, row_of = tensors["step"].numpy(), {name: row for row, name in enumerate(members)}
    rows = [(slot, row_of[source]) for slot, source in enumerate(sources_of) if source in row_of]
    rows = [
        (slot, row)
        for slot, row in rows
        if steps[row] > state.step[slot] and _is_complete(records[row], state.members[slot].trial, int(steps[row]))
    ]
    if not rows:
        return state, {}
    slots, at = (torch.tensor(column) for column in zip(*rows, strict=True))
    step = state.step.copy()
    step[slots.numpy()] = steps[at.numpy()]
    try:
        fields = _with_rows(program, state, tensors, slots, at)
        states = from_bytes(tensors["optimizers"]) if program.has_objects else []
        for slot, row in rows:
            if optimizer := state.members[slot].optimizer:
                own_optimizers.restore_(optimizer, states[row])
    except (KeyError, RuntimeError, IndexError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"it is of another program ({error})") from error
    trials = [(state.members[slot].trial, row) for slot, row in rows]
    return state._replace(step=step, **fields), {
        trial.trial_id: records[row] if trial.trial_id == members[row] else _taken_over(records[row], trial)
        for trial, row in trials
    }


def _is_complete(record: Record, trial: TrialConfig, end: int) -> bool:
    """Returns whether a record has all metrics and repeated probes of the trial up to this step."""
    computed = {(row["metric"], row["step"]) for row in record.probed.get("metrics", ())}
    has_metrics = all((metric, point["step"]) in computed for metric in trial.metrics for point in record.curve)
    probed = {(table, row["step"]) for table, rows in record.probed.items() for row in rows}
    repeated = [table for table in REPEATED_PROBES if table in trial.probes]
    return has_metrics and all((t, step) in probed for t in repeated for step in trial.probe_steps if step <= end)


def _taken_over(record: Record, trial: TrialConfig) -> Record:
    """Returns the rows of another trial's record that the trial wants too, as its rows."""

    tables = set(own_probes.repeated(trial.probes).values())

    def is_wanted(table: str, row: Point) -> bool:
        if table == "metrics":
            return row["metric"] in trial.metrics
        return table in tables and row["step"] in trial.probe_steps

    probed = {
        table: [{**row, "trial_id": trial.trial_id} for row in rows if is_wanted(table, row)]
        for table, rows in record.probed.items()
    }
    return Record(record.curve, probed)


def _with_rows(
    program: Program, state: State, tensors: Mapping[str, Tensor], slots: Tensor, sources: Tensor
) -> dict[str, Any]:
    """Field -> its value with rows `sources` of the checkpoint in these slots."""
    history = History(*(tensors[f"history/{name}"] for name in History._fields))
    width = state.examples.given.shape[1]
    tensors = {**tensors, **_named(fitted_to(history, width), "history")}
    fields = {name: getattr(state, name) for name in State._fields if name not in REBUILT}
    names = iter(_named(fields))
    at = slots.to(program.device)

    def placed(value: Tensor) -> Tensor:
        return value.index_copy(0, at, tensors[next(names)][sources].to(value.device, value.dtype))

    return {name: map_tensors(placed, value) for name, value in fields.items()}


def _changed(state: State) -> dict[str, Tensor]:
    return _named({name: getattr(state, name) for name in State._fields if name not in REBUILT})


def _named(value: Any, name: str = "") -> dict[str, Tensor]:
    """The tensors in these dicts and named tuples, by their path, in the order of `map_tensors`."""
    if isinstance(value, Tensor):
        return {name: value}
    parts = value if isinstance(value, dict) else value._asdict() if hasattr(value, "_asdict") else {}
    return {
        way: tensor
        for part, inner in parts.items()
        for way, tensor in _named(inner, f"{name}/{part}" if name else part).items()
    }


def _packed(curves: Sequence[Sequence[Point]]) -> dict[str, Tensor]:
    """All curves' points concatenated, one tensor per column, and the length of each curve."""
    points = [point for curve in curves for point in curve]
    columns = {name: [point[name] for point in points] for name in (points[0] if points else ())}
    packed = {
        f"curves/{name}": torch.tensor(values, dtype=torch.int64 if isinstance(values[0], int) else torch.float64)
        for name, values in columns.items()
    }
    return {**packed, "curve_lengths": torch.tensor([len(curve) for curve in curves], dtype=torch.int64)}


def _unpacked(tensors: Mapping[str, Tensor]) -> list[list[Point]]:
    columns = {
        name.removeprefix("curves/"): value.tolist() for name, value in tensors.items() if name.startswith("curves/")
    }
    points = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    ends = tensors["curve_lengths"].cumsum(0).tolist()
    return [points[end - length : end] for end, length in zip(ends, tensors["curve_lengths"].tolist(), strict=True)]


def _read(content: bytes) -> tuple[list[str], dict[str, str], dict[str, Tensor]]:
    """Members, the fingerprints of their data (empty from older versions), and tensors."""
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["memsweep"])
        members, digest = header["members"], header["digest"]
        data = dict(zip(members, header.get("data", ()), strict=False))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"it is damaged ({error})") from error
    if _digest(tensors) != digest:
        raise CheckpointError("it is damaged (its content does not match its header)")
    return members, data, tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_bytes(states: Sequence[Mapping[str, Any]]) -> Tensor:
    """Returns states from `own_optimizers.saved` as bytes of a safetensors file, uint8.

    Raises TypeError for values other than tensors, numbers, texts, None, and dicts, lists and tuples of these.
    """
    tensors: dict[str, Tensor] = {}
    encoded = json.dumps(_encoded(list(states), tensors))  # fills `tensors`
    content = save(tensors, {"states": encoded})
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def from_bytes(content: Tensor) -> list[dict[str, Any]]:
    """Returns the states that `to_bytes` was given.  Raises SafetensorError, KeyError, ValueError for other bytes."""
    file = content.numpy().tobytes()
    header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
    states: list[dict[str, Any]] = _decoded(json.loads(header["__metadata__"]["states"]), load(file))
    return states


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Returns a value as JSON holds it, [kind, content] for all but numbers and texts.  tensors: tensors are added."""
    if isinstance(value, Tensor):
        tensors[str(len(tensors))] = value.detach().contiguous().clone()
        return ["tensor", str(len(tensors) - 1)]
    if isinstance(value, Mapping):
        return ["dict", [[_encoded(key, tensors), _encoded(item, tensors)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return [kind, [_encoded(item, tensors) for item in value]]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the optimizer's state holds a {type(value).__name__}, which a checkpoint can't hold")


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_decoded(key, tensors): _decoded(item, tensors) for key, item in content}
    items = [_decoded(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
