"""A program that the disk has is the compiled program, to the bit, and serves what it was compiled for alone."""

import shutil
import subprocess
import sys
import threading

import pytest
import torch
from torch._dynamo.utils import counters

from memsweep.engine.train import compilation, evaluation, program_files, trainer
from memsweep.engine.train.step import train_step
from memsweep.run.policy import execution_plan
from memsweep.spec import compiled_code
from tests import test_exactness as exactness
from tests.cases import CASES, trial
from tests.test_compilation import every_case

pytestmark = [
    pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler: g++"),
    pytest.mark.timeout(1200),
    # which torch remarks while it traces the search for critical samples of a convolutional network
    pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching"),
]
OWN_CODE = {case for case, fields in CASES.items() if ":" in str((fields.get("model.family"), *fields.values()))}
"""Trainings with a user's code, which are traced in each process."""


@pytest.fixture
def compiled(monkeypatch):
    """All programs of a test are compiled."""
    compose = trainer.compose
    monkeypatch.setattr(
        trainer, "compose", lambda trials, device="cpu", **_mode: compose(trials, device, compiled=True)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of the program of the case "decay", in a folder of the module."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program_files, "folder", lambda: folder)
        patch.setattr(compilation, "_compiled", {})
        advanced([trial("decay", seed=seed) for seed in range(3)])
    return folder


@pytest.fixture
def own_folder(files, monkeypatch, tmp_path):
    """The files of `files`, which the test may change, in a process that has called no program yet."""
    folder = tmp_path / "programs"
    shutil.copytree(files, folder)
    monkeypatch.setattr(program_files, "folder", lambda: folder)
    monkeypatch.setattr(compilation, "_compiled", {})
    return folder


def advanced(trials):
    program = trainer.compose(trials, compiled=True)
    state = trainer.init(program, trials)
    trainer.advance(program, state, trainer.steps_to_measurement(state))
    return program


def in_a_new_process(monkeypatch):
    """As if no program had been called."""
    monkeypatch.setattr(compilation, "_compiled", {})
    torch._dynamo.reset()
    counters.clear()


def traced_count():
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("case", every_case(sorted(CASES.keys() - OWN_CODE)))
def test_a_loaded_program_equals_a_traced_one_to_the_bit(case, compiled, monkeypatch):
    trials = [trial(case, seed=seed) for seed in range(3)]
    exactness.run(trials)  # writes the files, unless an earlier run did
    in_a_new_process(monkeypatch)
    loaded, loaded_curves = exactness.run(trials)
    assert traced_count() == 0
    in_a_new_process(monkeypatch)
    monkeypatch.setattr(program_files, "name_of", lambda *_: None)
    traced, traced_curves = exactness.run(trials)
    assert traced_count() == (2 if trainer.compose(trials).compiled else 0)
    assert all(exactness.deviation(loaded[one], traced[one]) == 0 for one in traced)
    assert loaded_curves == traced_curves


def test_a_file_serves_all_numbers_of_members_and_examples(own_folder, compiled, monkeypatch):
    in_a_new_process(monkeypatch)
    for members, examples in ((1, 50), (4, 90), (7, 130)):
        trials = [trial("decay", seed=seed, data__examples=examples, optimizer__epochs=2) for seed in range(members)]
        exactness.assert_alone_equals_packed(trials)
    assert traced_count() == 0


def test_a_process_that_loads_a_program_imports_no_compiler(own_folder):
    program = (
        "import sys; from pathlib import Path; from tests.cases import trial\n"
        "from memsweep.engine.train import compilation, program_files, trainer\n"
        f"program_files.folder = lambda: Path({str(own_folder)!r})\n"
        f"trainer.torch.set_num_threads({torch.get_num_threads()})\n"
        "trials = [trial('decay', seed=seed) for seed in range(2)]\n"
        "program = trainer.compose(trials, compiled=True)\n"
        "state = trainer.init(program, trials)\n"
        "trainer.advance(program, state, trainer.steps_to_measurement(state))\n"
        "assert compilation.is_loadable(program)\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def name(case="decay", **fields):
    trials = [trial(case, seed=seed, **fields) for seed in range(2)]
    program = trainer.compose(trials, compiled=True)
    state = trainer.init(program, trials)
    return program_files.name_of(train_step, program, [state._replace(members=(), step=())])


def test_another_number_of_members_and_examples_is_the_same_file():
    trials = [trial("decay", seed=seed, data__examples=120) for seed in range(7)]
    program = trainer.compose(trials, compiled=True)
    state = trainer.init(program, trials)._replace(members=(), step=())
    assert program_files.name_of(train_step, program, [state]) == name()


@pytest.mark.parametrize(
    "fields",
    [
        {"model__width": 9},
        {"compute__dtype": "float64"},
        {"optimizer__batch_size": 21},
        {"model__activation": "tanh"},
        {"regularization__dropout": 0.1},
        {"data__validation_examples": 0},
    ],
    ids=str,
)
def test_another_program_is_another_file(fields):
    assert name(**fields) != name()


def test_another_torch_processor_code_or_setting_is_another_file(monkeypatch):
    names = [name()]
    for target, attribute, value in (
        (torch, "__version__", "2.14.0"),
        (program_files, "_processor", lambda: ("x86_64", "DEFAULT")),
        (program_files, "_code", lambda: "edited"),
        (torch, "get_num_threads", lambda: 77),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, attribute, value)
            names.append(name())
    monkeypatch.setenv("TORCHINDUCTOR_CPP_WRAPPER", "1")
    assert len({*names, name()}) == 6


def test_code_is_hashed_and_never_when_edited_after_the_start(monkeypatch):
    assert program_files._code.__wrapped__() == program_files._code.__wrapped__()
    monkeypatch.setattr(program_files, "ROOMS", ("engine", "data"))
    other = program_files._code.__wrapped__()
    monkeypatch.undo()
    assert other != program_files._code.__wrapped__()
    monkeypatch.setattr(compiled_code, "_imported_at", 0.0)
    assert program_files._code.__wrapped__() is None
    monkeypatch.setattr(program_files, "_code", program_files._code.__wrapped__)
    assert name() is None


def test_a_users_code_and_a_gpu_have_no_files():
    assert name("own loss") is name("penalty") is name("own buffers") is None
    program = trainer.compose([trial()], compiled=True)
    assert program_files.name_of(train_step, program._replace(device=torch.device("cuda")), []) is None


def test_what_does_not_fit_is_not_given_to_the_library(own_folder):
    advanced([trial("decay", seed=seed) for seed in range(2)])
    trials = [trial("decay", seed=seed) for seed in range(4)]
    state = trainer.init(trainer.compose(trials), trials)
    (library,) = (c.library for (function, *_), c in compilation._compiled.items() if function is evaluation._answers)
    weights, examples = evaluation.numbers_of(state), state.examples
    rows = torch.zeros(4, 256, dtype=torch.int64)

    def inputs(numbers=weights, bank=examples.bank, rows=rows, wanted=rows):
        return library.inputs(numbers, evaluation.Block(bank, rows, wanted))

    assert inputs() is not None and inputs(rows=rows[:, :9].contiguous(), wanted=rows[:, :9].contiguous()) is not None
    assert inputs(rows=rows[:, :9].contiguous()) is None  # sizes that were equal
    assert inputs(numbers={name: value[:3] for name, value in weights.items()}) is None
    assert inputs(rows=rows[:, :1].contiguous(), wanted=rows[:, :1].contiguous()) is None  # torch fixes size 1
    assert inputs(bank=examples.bank.double()) is None and inputs(bank=examples.bank[:, :63].contiguous()) is None
    assert inputs(bank=examples.bank.T.contiguous().T) is None  # columns after columns
    assert inputs(bank=examples.bank.clone().requires_grad_()) is None
    assert inputs(numbers={**weights, "more": rows}) is None


@pytest.mark.parametrize("damage", ["library", "record", "lost"])
def test_a_damaged_file_is_written_again(own_folder, monkeypatch, damage):
    for path in own_folder.glob("*.json" if damage == "record" else "*.so"):
        if damage == "lost":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    traced = []
    monkeypatch.setattr(compilation._Compiled, "_trace", lambda self, values: traced.append(self.name) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        advanced([trial("decay", seed=seed) for seed in range(2)])
    assert traced == [path.stem for path in own_folder.glob("*.json") if path.stem == traced[0]]


def test_processes_that_write_and_read_at_once_see_whole_programs(own_folder):
    """Three writers of the same program, whose libraries differ, and a reader."""
    name = next(own_folder.glob("*.json")).stem
    record = program_files.load(train_step, name).record
    content = (own_folder / f"{record.library}.so").read_bytes()

    def write(number):
        for repeat in range(30):
            path = own_folder / f"{number}.part"
            path.write_bytes(content + bytes([number, repeat]))
            program_files.save(name, record._replace(library=program_files.digest(path)), path)

    writers = [threading.Thread(target=write, args=[number]) for number in range(3)]
    for writer in writers:
        writer.start()
    loaded = []
    while any(writer.is_alive() for writer in writers) or not loaded:
        loaded.append(program_files.load(train_step, name) is not None)
    for writer in writers:
        writer.join()
    assert all(loaded) and not list(own_folder.glob("*.tmp"))


def test_a_program_that_loads_pays_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    seconds = [execution_plan.compile_seconds("a program")]
    execution_plan.note_cached("a program")
    seconds.append(execution_plan.compile_seconds("a program"))
    execution_plan.note_cached("a program", is_loadable=True)
    seconds.append(execution_plan.compile_seconds("a program"))
    assert seconds == [execution_plan.COMPILE_SECONDS[name] for name in ("new", "cached", "loaded")]
