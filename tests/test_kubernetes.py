"""What `memsweep kubernetes` prints, applies and refuses, without Kubernetes; the files from which images are built."""

import os
import re
import shlex
import stat
from pathlib import Path

import jsonschema
import pytest
import yaml

from memsweep.run import kubernetes
from memsweep.run.launch_options import LaunchOptions
from tests.commands import own_folder, refused, run, snapshot  # noqa: F401
from tests.test_wheel import FOLDERS

ROOT = Path(__file__).parents[1]
SCHEMA = "ray.io_rayjobs.yaml"
PLACE = ("--image", "r/memsweep:1", "--results", "s3://bucket/results")
ALL = (
    *("smoke", "--image", "host:5000/r/memsweep@sha256:0a", "--results", "s3://bucket/results"),
    *("--set", "seeds=0:20", "--workers", 4, "--gpus-per-worker", 2, "--cpus-per-worker", 3),
    *("--memory-per-worker", "16Gi", "--retries", 2, "--deadline", "90m", "--node-selector", "k8s.io/gpu=H200"),
    *("--node-selector", "spot=", "--secret", "keys", "--service-account", "trainer", "--namespace", "lab"),
    *("--name", "map", "--keep", "weights"),
)


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """A `kubectl` that stores its arguments and its input, alone on the path."""
    folder = tmp_path / "stub"
    folder.mkdir()
    stub = folder / "kubectl"
    stub.write_text(
        f'#!/bin/sh\necho "$@" > {folder}/words\n/bin/cat > {folder}/input\necho "$ERROR" >&2; exit $CODE\n'
    )
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("CODE", "0")
    return folder


def schema():
    """KubeRay's schema of a RayJob, in which fields that it does not list are refused: Kubernetes would drop them."""
    places = [os.environ.get("KUBERAY_SCHEMA"), *(folder / "shared" / "kuberay" / SCHEMA for folder in ROOT.parents)]
    path = next((Path(place) for place in places if place and Path(place).is_file()), None)
    if path is None:
        pytest.skip(f"KubeRay's {SCHEMA} is absent: set KUBERAY_SCHEMA to its path")
    versions = yaml.load(path.read_bytes(), yaml.CSafeLoader)["spec"]["versions"]
    tree = next(version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1")
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict) and "additionalProperties" not in node:
                node["additionalProperties"] = node.get("x-kubernetes-preserve-unknown-fields", False)
            pending += node.values()
    tree["properties"]["metadata"] = {"type": "object"}  # of Kubernetes, not of KubeRay
    return tree


def printed(run, *arguments):  # noqa: F811
    code, out, err = run("kubernetes", *arguments)
    assert code == 0, err
    return yaml.safe_load(out)


def test_manifests_fit_the_schema_of_kuberay(run):  # noqa: F811
    validator = jsonschema.Draft202012Validator(schema())
    for arguments in (ALL, ("smoke", *PLACE)):
        job = printed(run, *arguments)
        assert [error.message for error in validator.iter_errors(job)] == []
    del job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["name"]
    job["spec"]["backofflimit"] = 1
    assert len(list(validator.iter_errors(job))) == 2


def test_a_manifest_holds_what_the_options_say_and_nothing_is_written(run):  # noqa: F811
    before = snapshot()
    job = printed(run, *ALL)
    assert snapshot() == before
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert job["metadata"] == {"name": "map", "namespace": "lab"}
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (2, 5400)
    assert cluster["authOptions"] == {"mode": "token"} and cluster["enableInTreeAutoscaling"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (0, 4)
    head, worker = (part["template"]["spec"] for part in (cluster["headGroupSpec"], group))
    assert worker["nodeSelector"] == {"k8s.io/gpu": "H200", "spot": ""} and "nodeSelector" not in head
    for pod in (head, worker):
        (container,) = pod["containers"]
        assert pod["serviceAccountName"] == "trainer" and container["image"] == "host:5000/r/memsweep@sha256:0a"
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert worker["containers"][0]["resources"]["limits"] == {"cpu": 3, "memory": "16Gi", "nvidia.com/gpu": 2}


def test_the_entry_point_is_a_launch_that_accepts_failed_trials(run, monkeypatch):  # noqa: F811
    """KubeRay would start a new cluster after exit code 1, on which the same trials fail again."""
    calls = []

    def launch(sweeps, store, options, update):
        calls.append(options)
        return Report()

    class Report:
        failed, unfinished, interrupted = 1, 0, False

    monkeypatch.setattr("memsweep.run.launcher.launch", launch)
    words = shlex.split(printed(run, *ALL)["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "memsweep"] and words[words.index("--results") + 1] == "s3://bucket/results"
    words[words.index("--results") + 1] = "results"
    assert run(*words[3:])[0] == 0
    (options,) = calls
    assert (options.address, options.workers, options.device, options.keep) == ("auto", 8, "cuda", "weights")
    assert run(*words[3:-1])[0] == 1  # without --accept-failed
    monkeypatch.setattr(Report, "unfinished", 1)
    assert run(*words[3:])[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*PLACE, "--gpus-per-worker", 2, "--cpus-per-worker", 1), "--cpus-per-worker 1: must be at least"),
        ((*PLACE, "--memory-per-worker", "4"), "--memory-per-worker '4': must be a size"),
        ((*PLACE, "--node-selector", "gpu"), "--node-selector 'gpu': must be a label KEY=VALUE"),
        ((*PLACE, "--secret", "Keys"), "--secret 'Keys': must be the name of a Secret"),
        ((*PLACE, "--namespace", "a.b"), "--namespace 'a.b': must be the name of a namespace"),
        ((*PLACE, "--name", "a" * 48), "must be at most 47 lower-case letters"),
        ((*PLACE, "--deadline", "0.5s"), "--deadline 0.5 s: must be 1 s or more"),
        ((*PLACE[:3], "s3://b/r?region=x"), "'s3://b/r?region=x': the command of a job can hold only"),
        (("--image", "r/m:1 --rm", *PLACE[2:]), "--image 'r/m:1 --rm': must be the name of an image"),
        (
            ("--image", "r/m:1", "--results", "/mnt/results"),
            "--results /mnt/results: the Pods of a job share no folder",
        ),
    ],
)
def test_wrong_options_are_refused_before_kubectl_runs(refused, kubectl, words, message):  # noqa: F811
    before = snapshot()
    assert message in refused("kubernetes", "smoke", "--apply", *words)
    assert snapshot() == before


def test_apply_hands_the_manifest_to_kubectl(run, refused, kubectl, monkeypatch):  # noqa: F811
    code, out, err = run("kubernetes", *ALL, "--apply")
    assert (code, out) == (0, "map\n") and "kubectl --namespace lab delete rayjob map" in err
    assert (kubectl / "words").read_text() == "apply -f -\n"
    assert yaml.safe_load((kubectl / "input").read_text()) == printed(run, *ALL)
    monkeypatch.setenv("CODE", "1")
    monkeypatch.setenv("ERROR", "error: no such kind")
    assert refused("kubernetes", *ALL, "--apply") == "map: kubectl refuses the job: error: no such kind"
    monkeypatch.setenv("PATH", "/nowhere")
    assert refused("kubernetes", *ALL, "--apply").startswith("kubectl is not installed. Install it")


def test_each_job_has_a_new_name_that_kuberay_takes():
    names = set()
    for sweep in ("smoke", "sweeps/a_sweep/My_Question-with_a_name_of_more_than_enough_characters.py", "_.py"):
        for _ in range(2):
            job = kubernetes.manifest([sweep], "s3://b", LaunchOptions(), kubernetes.Request("i"))
            names.add(job["metadata"]["name"])
            kubernetes.Request("i", name=job["metadata"]["name"])  # takes it
    assert len(names) == 6


def installs(text):
    """The `pip install` commands of a file: their requirements and constraints."""
    options = {"-e", "--quiet", "--no-cache-dir", "--disable-pip-version-check"}
    commands = re.findall(r"-m pip install (.*)", text)
    return [[word for word in shlex.split(command) if word not in options] for command in commands]


@pytest.mark.parametrize("name", ["Dockerfile", "memsweep.def"])
def test_images_are_installed_as_a_machine_of_a_cluster(name):
    """Their lines are those of `make node`; the copied files are those from which the wheel is built, and the pins."""
    text = (ROOT / name).read_text()
    node = (ROOT / "Makefile").read_text().partition("\nnode:")[2].partition("\n\n")[0]
    assert installs(text) == installs(node) != []
    if name == "Dockerfile":
        copied = [word for line in re.findall(r"^COPY (.*)", text, re.MULTILINE) for word in line.split()[:-1]]
    else:
        lines = text.partition("%files\n")[2].partition("\n%")[0].splitlines()
        copied = [line.split()[0] for line in lines if line.strip()]
    assert sorted(copied) == sorted([*FOLDERS.values(), "constraints.txt", "pyproject.toml", "README.md", "LICENSE"])
