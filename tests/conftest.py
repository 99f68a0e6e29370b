"""Options of the tests: --device and --dtype run the engine's properties on an accelerator or in another precision."""

import pytest
import torch

from memsweep.engine import adversarial


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the engine's tests train: cpu or cuda")
    parser.addoption("--dtype", default="float32", choices=("float32", "float64"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def device(request):
    name = request.config.getoption("--device")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return name


@pytest.fixture(scope="session")
def dtype(request):
    return request.config.getoption("--dtype")


@pytest.fixture
def wide_boxes(monkeypatch):
    """The search for critical samples in boxes fifty times the paper's: networks as small as the tests' have some."""
    for name in ("ALPHA", "BETA", "RADIUS"):
        monkeypatch.setattr(adversarial, name, 50 * getattr(adversarial, name))
