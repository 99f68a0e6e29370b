"""Sweeps sent to a running cluster as jobs, with and without its token; the cluster is one of its own, on loopback."""

import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import memsweep
from memsweep.run import jobs
from tests.cluster.machines import LOOPBACK, Machines
from tests.test_launch import ROOT, command, memsweep_

TINY = ["smoke", "--limit", "4", "--tracking-uri", "none"]


@pytest.fixture(scope="module")
def head():
    """A Ray head with a dashboard that wants a token: address of the dashboard, environment with the token."""
    machines = Machines([LOOPBACK], dashboard=True, head_processors=2)
    try:
        until = time.monotonic() + 120
        while not answers(machines.page):
            assert machines.head.process.poll() is None and time.monotonic() < until, machines.head.log.read_text()
            time.sleep(0.5)
        yield machines.page, machines.environment
    finally:
        machines.kill()


def answers(address):
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@pytest.mark.timeout(400)
def test_a_job_runs_and_is_followed(head, tmp_path):
    address, own = head
    results = tmp_path / "results"
    sent = memsweep_("submit", *TINY, "--address", address, "--results", results, env=own, timeout=300)
    assert sent.returncode == 0, sent.stderr
    assert "smoke: 4 of 12 trials finished, 4 of them run now" in sent.stderr and "ray job logs --follow" in sent.stderr
    assert set(memsweep.table("trials", results)["status"]) == {"finished"}
    assert "Warning" not in sent.stderr


@pytest.mark.timeout(400)
def test_a_closed_terminal_stops_nothing(head, tmp_path):
    address, own = head
    results = tmp_path / "results"
    sent = subprocess.Popen(
        command("submit", *TINY, "--address", address, "--results", results),
        **{"cwd": ROOT, "env": own, "stderr": subprocess.PIPE, "text": True, "start_new_session": True},
    )
    line = sent.stderr.readline()
    while "runs on" not in line:
        assert line, "it ended"
        line = sent.stderr.readline()
    sent.send_signal(signal.SIGHUP)
    sent.communicate()
    until = time.monotonic() + 240
    while not (results / "trials").is_dir() or len(memsweep.table("trials", results)) < 4:
        assert time.monotonic() < until
        time.sleep(1)


def test_a_wrong_token_is_refused_with_advice(head, tmp_path):
    address, own = head
    for token in ("f" * 64, None):
        environment = {**own, "RAY_AUTH_TOKEN": token} if token else {k: v for k, v in own.items() if "TOKEN" not in k}
        environment["HOME"] = str(tmp_path)
        found = memsweep_("submit", *TINY, "--address", address, "--results", tmp_path / "r", env=environment)
        assert found.returncode == 2 and "token" in found.stderr and "Traceback" not in found.stderr, found.stderr


def test_a_cluster_that_is_not_there_is_told(tmp_path):
    found = memsweep_("submit", "smoke", "--address", "http://127.0.0.1:9", "--results", tmp_path)
    assert found.returncode == 2 and "does not respond" in found.stderr, found.stderr
    found = memsweep_("submit", "smoke", "--address", "127.0.0.1:6379", "--results", tmp_path)
    assert found.returncode == 2 and "must be the address of a dashboard" in found.stderr


def test_results_that_only_this_machine_has_are_refused():
    found = memsweep_("submit", "smoke", "--address", "http://127.0.0.1:9", "--results", "results")
    assert found.returncode == 2 and "do not share a relative path" in found.stderr


def test_passwords_are_not_sent_among_a_jobs_words(tmp_path):
    uri = "postgresql://me:hush@host/mlflow"
    words = ["submit", "smoke", "--address", "http://127.0.0.1:9", "--results", tmp_path, "--tracking-uri", uri]
    found = memsweep_(*words)
    assert found.returncode == 2 and "MLFLOW_TRACKING_URI on the cluster" in found.stderr and "hush" not in found.stderr


@pytest.fixture
def answering():
    """A server that answers everybody with this status; its port."""
    servers = []

    def start(status, host="127.0.0.1"):
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"[]")

            do_POST = do_PUT = do_GET

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer((host, 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "wants"), [(200, False), (401, True), (403, True)])
def test_a_dashboard_is_asked_whether_it_wants_a_token(answering, status, wants):
    assert jobs.requires_token(f"http://127.0.0.1:{answering(status)}") == wants


def test_what_is_no_dashboard_is_told(answering):
    with pytest.raises(jobs.ClusterError, match="is not a Ray dashboard: it responds 404"):
        jobs.requires_token(f"http://127.0.0.1:{answering(404)}")


def test_an_open_dashboard_of_another_machine_is_warned_of(answering, tmp_path):
    """An address of loopback that is not one of its names stands for another machine's."""
    results = tmp_path / "results"
    for host, warned in (("127.0.0.2", True), ("127.0.0.1", False)):
        address = f"http://{host}:{answering(200, host)}"
        found = memsweep_("submit", "smoke", "--address", address, "--results", results)
        assert found.returncode == 2 and ("requires no token" in found.stderr) == warned, found.stderr
