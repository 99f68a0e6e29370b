"""Trains a sweep's trials in this process, without Ray."""

from memsweep.run import plan
from memsweep.run.policy import execution_plan
from memsweep.run.rounds.definition import write_wanted
from memsweep.run.worker.execution import run_pack


def train(sweep, store):
    """The store, after the packs that a launch of the sweep would run."""
    write_wanted(sweep, sweep.trials, store)
    missing = plan.work(sweep.trials, store).missing
    chosen = execution_plan.choose(missing, store, "cpu", 1, compiling=False)
    for pack in plan.packs(missing, 1, None, chosen):
        list(run_pack(pack, store))
    return store
