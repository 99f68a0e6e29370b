"""Ray starts with less waiting: its private names are as expected, and workers start as by its own program."""

import inspect
import json
import os
import subprocess
import sys

import pytest

from memsweep.run import cluster, ray_start, worker_start

# isort: split
import ray
import ray.air._internal.usage
from ray._private import node, services
from ray._private.parameter import RayParams

SHOW = """
import json, os, sys
print(json.dumps([sys.argv[1:], sys.executable, {name: os.environ.get(name) for name in ("A", "B", "PATH")}]))
"""
RAYS_OWN = os.path.join(os.path.dirname(ray.__file__), "_private/workers/setup_worker.py")


def test_ray_has_what_is_replaced():
    """When this fails, launches start slower and still run: the start of Ray has changed."""
    for name in (*ray_start.UNUSED_SERVICES, "start_raylet"):
        assert inspect.isfunction(getattr(node.Node, name)), name
    assert "setup_worker_path" in inspect.signature(services.start_raylet).parameters
    assert list(inspect.signature(services.get_node).parameters) == ["gcs_address", "node_id"]
    assert list(inspect.signature(ray.air._internal.usage.tag_callbacks).parameters) == ["callbacks"]
    assert callable(ray._private.utils.get_dashboard_dependency_error)
    assert "setup_worker_path" in inspect.signature(RayParams).parameters
    assert os.path.exists(RAYS_OWN)


def test_every_change_ends_with_its_context():
    names = (*ray_start.UNUSED_SERVICES, "start_raylet")
    before = [getattr(node.Node, name) for name in names], services.get_node, ray.air._internal.usage.tag_callbacks
    with pytest.raises(ZeroDivisionError), ray_start.hastened_start(lambda: None), ray_start.without_usage_tags():
        assert services.get_node is not before[1] and ray.air._internal.usage.tag_callbacks([object()]) is False
        raise ZeroDivisionError
    after = [getattr(node.Node, name) for name in names], services.get_node, ray.air._internal.usage.tag_callbacks
    assert after == before


def test_what_is_done_meanwhile_is_done_once_while_the_raylet_starts():
    seen = []
    with cluster.cluster(meanwhile=lambda: seen.append(ray.is_initialized())):
        assert seen == [False] and len(ray.nodes()) == 1
        client = ray._raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
        assert len(client.get_all_node_info(timeout=10)) == 1  # else the first look does not wait


def test_a_start_without_rays_private_names_is_an_ordinary_one(monkeypatch):
    monkeypatch.setattr(ray_start, "_part", lambda *names: None)
    monkeypatch.setattr(ray.air._internal, "usage", None)
    done = []
    with ray_start.hastened_start(lambda: done.append("meanwhile")), ray_start.without_usage_tags():
        done.append("started")
    assert done == ["started"]


def test_what_meanwhile_raises_is_not_taken_for_an_error_of_ray():
    def fail():
        raise RuntimeError("a broken package")

    with pytest.raises(RuntimeError, match="a broken package"), cluster.cluster(meanwhile=fail):
        pytest.fail("the cluster is not used")
    assert not ray.is_initialized()


def started(program, context, *arguments, language="PYTHON"):
    """What a worker sees that this program starts as Ray does, with a runtime environment."""
    given = [*arguments, f"--language={language}", f"{worker_start.ENVIRONMENT}{json.dumps(context)}"]
    command = [sys.executable, program, *given]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "B": "outside"}, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"env_vars": {"A": "1", "B": "2 and 'quotes'"}, "command_prefix": [], "py_executable": sys.executable},
        {"env_vars": {"A": "${B} and $B", "B": "${MISSING_NAME}"}},
        {"command_prefix": ["A=5"]},
        {"py_executable": f"env A=7 {sys.executable}"},
    ],
    ids=["plain", "variables", "references", "prefix", "command"],
)
def test_workers_start_as_by_rays_own_program(context, tmp_path):
    script = tmp_path / "show.py"
    script.write_text(SHOW)
    arguments = (str(script), "--name=a b", "--temp-dir=/tmp/$x", "last")
    ours = started(worker_start.__file__, context, *arguments)
    assert ours == started(RAYS_OWN, context, *arguments)
    assert ours[0] == ["--name=a b", "--temp-dir=/tmp/$x", "last"]


def test_only_what_needs_it_is_left_to_ray(monkeypatch):
    taken = []
    monkeypatch.setattr(worker_start.os, "execve", lambda *how: taken.append("ours"))
    monkeypatch.setattr(worker_start, "_run_ray", lambda: taken.append("ray"))
    for context, language in (("{}", "PYTHON"), ('{"env_vars": {"A": "$B"}}', "PYTHON"), ("{}", "CPP")):
        monkeypatch.setattr(
            sys, "argv", ["start", f"--language={language}", f"{worker_start.ENVIRONMENT}{context}", "w"]
        )
        before = len(taken)
        worker_start.main()
        assert taken[before] == ("ours" if (context, language) == ("{}", "PYTHON") else "ray")
