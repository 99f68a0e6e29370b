"""Whether a program is compiled is chosen by what that saves, once for a results folder."""

import pytest

from memsweep.launch import choices
from memsweep.launch.choices import COMPILE_SECONDS, SAVED_SECONDS, compiled_programs
from memsweep.launch.packing import program_name
from memsweep.results.store import Store, StoreError
from tests.cases import trial

ENOUGH = int(COMPILE_SECONDS["new"] / SAVED_SECONDS)  # member steps of one worker


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """One with a compiler, which has compiled nothing yet."""
    monkeypatch.setattr(choices, "has_compiler", lambda: True)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, create=True)


def chosen(trials, store=None, device="cpu", workers=1, wish=None):
    return list(compiled_programs(trials, store, device, workers, wish).values())


def test_only_what_saves_more_than_it_costs_is_compiled():
    half = [trial(seed=seed, stop__steps=ENOUGH // 2 + 1) for seed in (0, 1)]
    assert chosen(half) == [True]
    assert chosen(half[:1]) == [False]
    assert chosen(half, workers=2) == [False]  # each compiles for itself
    assert chosen([half[0], trial(model__width=9, stop__steps=ENOUGH // 2 + 1)]) == [False, False]


def test_a_program_that_is_cached_pays_sooner():
    short = trial(stop__steps=ENOUGH // 2)
    choices.note_cached(program_name(trial(model__width=9)))
    assert chosen([short]) == [False]
    choices.note_cached(program_name(short))
    assert chosen([short]) == [True] and chosen([trial(stop__steps=10)]) == [False]


def test_gpus_and_machines_without_compiler_do_not_compile_unless_told(monkeypatch):
    long = [trial(stop__steps=2 * ENOUGH)]
    assert chosen(long, device="cuda") == [False] and chosen(long, device="cuda", wish=True) == [True]
    monkeypatch.setattr(choices, "has_compiler", lambda: False)
    assert chosen(long) == [False]


def test_a_stored_choice_is_kept_whatever_is_left(store):
    long, rest = [trial(stop__steps=2 * ENOUGH)], [trial(seed=1)]
    store.note_compiled_programs(compiled_programs(long, store, "cpu", 1))
    assert chosen(rest) == [False] and chosen(rest, store) == [True]
    assert chosen(rest, store, wish=False) == [False]
    store.note_compiled_programs({"another": False})
    assert store.compiled_programs() == {program_name(long[0]): True, "another": False}


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {}}'])
def test_a_broken_file_of_choices_is_told(store, text):
    (store.results / "programs.json").write_text(text)
    with pytest.raises(StoreError, match=r"programs\.json can't be read .*: move it away"):
        store.compiled_programs()
