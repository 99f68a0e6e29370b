"""cluster.yaml and its variant on one's own machines: Ray's own check of the schema, and ours of what it lets pass."""

import difflib
import re
import subprocess
from copy import deepcopy
from pathlib import Path

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

ROOT = Path(__file__).parents[2]
FILES = {"aws": ROOT / "cluster.yaml", "local": ROOT / "cluster-on-premise.yaml"}
PROVIDER = {
    "aws": {"type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "security_group"},
    "local": {"type", "head_ip", "worker_ips"},
}


@pytest.fixture(params=FILES)
def config(request):
    return yaml.safe_load(FILES[request.param].read_text())


def problems(config):
    """What is wrong with a cluster file, by Ray's check and by ours."""
    # here, since Ray reads RAY_AUTH_MODE when it is imported; no public way: `ray up` calls these
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = []
    try:
        validate_config(prepare_config(deepcopy(config)))
    except Exception as error:  # whatever Ray raises, `ray up` would stop at it
        return [str(error)]
    provider = config["provider"]
    found += [f"provider has no {name}" for name in provider.keys() - PROVIDER[provider["type"]]]
    if provider["type"] == "aws":
        session = botocore.session.get_session()
        if provider["region"] not in session.get_available_regions("ec2"):
            found.append(f"AWS has no region {provider['region']}")
        shape = session.get_service_model("ec2").operation_model("RunInstances").input_shape
        for name, node in config["available_node_types"].items():
            asked = {"MinCount": 1, "MaxCount": 1, **node["node_config"]}
            report = ParamValidator().validate(asked, shape)
            found += [f"{name}: {report.generate_report()}"] if report.has_errors() else []
            markets = session.get_service_model("ec2").shape_for("MarketType").enum
            market = node["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
            found += [f"{name}: no market {market}"] if market and market not in markets else []
    return found


def test_nothing_is_wrong(config):
    assert problems(config) == []


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ((), "max_wokers", 3),
        ((), "max_workers", "many"),
        (("provider",), "regoin", "us-east-1"),
        (("provider",), "region", "us-east-91"),
        (("provider",), "type", "azw"),
        (("available_node_types", "gpu"), "max_workrs", 3),
        (("available_node_types", "gpu", "node_config"), "InstanceTyp", "g6.xlarge"),
        (("available_node_types", "gpu", "node_config"), "InstanceMarketOptions", {"MarketTyp": "spot"}),
        (("available_node_types", "gpu", "node_config"), "InstanceMarketOptions", {"MarketType": "spto"}),
        (("available_node_types", "gpu", "node_config"), "BlockDeviceMappings", [{"Ebs": {"VolumeSize": "big"}}]),
    ],
)
def test_a_typo_is_found(place, name, value):
    config = yaml.safe_load(FILES["aws"].read_text())
    at = config
    for key in place:
        at = at[key]
    at[name] = value
    assert problems(config)


def test_a_typo_among_ones_own_machines_is_found():
    config = yaml.safe_load(FILES["local"].read_text())
    config["provider"]["worker_ip"] = ["10.0.0.1"]
    assert problems(config) == ["provider has no worker_ip"]


def test_the_two_differ_in_what_the_machines_are_alone():
    aws, own = (yaml.safe_load(path.read_text()) for path in FILES.values())
    assert {name for name in aws.keys() | own.keys() if aws.get(name) != own.get(name)} == {
        *("max_workers", "provider", "auth", "head_node_type", "available_node_types"),
    }
    lines = [path.read_text().splitlines() for path in FILES.values()]
    changes = [line for line in difflib.unified_diff(*lines, n=0, lineterm="") if re.match(r"[+-][^+-]", line)]
    assert len(changes) <= 40


def test_machines_get_this_projects_pinned_versions(config):
    assert config["setup_commands"] == ["make -C ~/memsweep node"] and config["file_mounts"]["~/memsweep"] == "."
    shown = subprocess.run(["make", "-n", "node"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.count("-c constraints.txt") == 2


def test_the_commands_are_those_of_a_shell(config):
    for command in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_the_cluster_asks_for_a_token_and_notices_a_lost_machine_in_ten_seconds():
    lines = (ROOT / "cluster.env").read_text().splitlines()
    own = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert own["RAY_AUTH_MODE"] == "token"
    period, failures = (int(own[f"RAY_health_check_{name}"]) for name in ("period_ms", "failure_threshold"))
    assert 5000 <= period * failures <= 12000
    for path in FILES.values():
        starts = [line for line in path.read_text().splitlines() if "cluster.env" in line and "set -a" in line]
        assert len(starts) == 2
        assert "--dashboard-host=127.0.0.1" in path.read_text()
