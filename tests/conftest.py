"""Options of the tests: --device and --dtype run the engine's properties on an accelerator or in another precision."""

import pytest
import torch


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
