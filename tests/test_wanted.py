"""What a sweep wants is written in parts of bounded size."""

from memsweep import Sweep
from memsweep.launch import driver
from memsweep.results.store import Store


def test_wanted_in_several_parts_reads_as_one_and_writing_again_adds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "WANTED_ROWS", 3)
    sweep, store = Sweep("eight", {"data.task": "digits"}, seeds=range(8)), Store(tmp_path)
    for _ in range(2):
        driver.write_wanted(sweep, sweep.trials, store)
    rows = store.current("wanted")
    assert len(store.parts("wanted")) == 3
    assert sorted(zip(rows["position"].to_pylist(), rows["trial_id"].to_pylist(), strict=True)) == [
        (position, trial.trial_id) for position, trial in enumerate(sweep.trials)
    ]
