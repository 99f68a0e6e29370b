"""Every test of this folder is marked `cluster`; servers are started here, on loopback, and stopped."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster import object_store

HERE = Path(__file__).parent
collect_ignore_glob = [] if find_spec("moto") else ["test_*.py"]  # without what make test-cluster installs


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    with object_store.serving(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """The server, with this process and those it starts as its clients."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return s3_server
