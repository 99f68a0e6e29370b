"""Shorter starts of Ray, for which it has no public options; each change ends with its context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

UNUSED_SERVICES = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods of a node that start the autoscaler, the reader of logs and the dashboard's server: each takes a second of a
processor while workers start."""
WORKER_START = Path(__file__).with_name("worker_start.py")
POLL_SECONDS, POLLED_SECONDS = 0.01, 30.0


@contextmanager
def hastened_start(meanwhile: Callable[[], object]) -> Iterator[None]:
    """Shortens the start of a local cluster within the context.

    UNUSED_SERVICES are left out; Ray's agent runs in its minimal form; workers start by WORKER_START. Ray looks for its
    raylet once a second: the first look waits until the raylet has registered.
    meanwhile: called once while the raylet starts; what it raises is raised at the end of the context.
    """
    node, services = _part("node", "Node"), _part("services")
    start_raylet, get_node = getattr(node, "start_raylet", None), getattr(services, "get_node", None)
    tasks, errors = [meanwhile], list[Exception]()

    def start_raylet_with_workers(self: Any, *arguments: Any, **options: Any) -> Any:
        assert start_raylet is not None
        self._ray_params.setup_worker_path = str(WORKER_START)
        return start_raylet(self, *arguments, **options)

    def get_started_node(*arguments: Any, **options: Any) -> Any:
        assert get_node is not None
        while tasks:
            try:
                tasks.pop()()
            except Exception as error:  # which Ray would take for its own
                errors.append(error)
        _wait_for_node(*arguments, **options)
        return get_node(*arguments, **options)

    nothing = {name: lambda *arguments, **options: None for name in UNUSED_SERVICES}
    with (
        _replaced(node, {**nothing, "start_raylet": start_raylet_with_workers}),
        _replaced(services, {"get_node": get_started_node}),
        _replaced(_part("utils"), {"get_dashboard_dependency_error": lambda: ImportError("not needed")}),
    ):
        yield
    if errors:
        raise errors[0]


@contextmanager
def without_usage_tags() -> Iterator[None]:
    """Keeps Tune from importing MLflow, which takes half a second, to count users of Ray's own callbacks."""
    usage = getattr(getattr(ray.air, "_internal", None), "usage", None)
    with _replaced(usage, {"tag_callbacks": lambda callbacks: False}):
        yield


def _part(*names: str) -> Any:
    """Returns a part of Ray's private package; None where this version has no such part."""
    part: Any = getattr(ray, "_private", None)
    for name in names:
        part = getattr(part, name, None)
    return part


def _wait_for_node(gcs_address: str, _node_id: str) -> None:
    """Waits until a cluster has a node, at most for POLLED_SECONDS; not at all where Ray can't be asked."""
    until = time.monotonic() + POLLED_SECONDS
    with suppress(Exception):  # then Ray looks itself
        client = ray._raylet.GcsClient(address=gcs_address)
        while not client.get_all_node_info(timeout=POLLED_SECONDS) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)


@contextmanager
def _replaced(owner: Any, attributes: Mapping[str, Any]) -> Iterator[None]:
    """Gives an object other attributes, of those that it has."""
    before = {name: getattr(owner, name) for name in attributes if hasattr(owner, name)}
    for name in before:
        setattr(owner, name, attributes[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)
