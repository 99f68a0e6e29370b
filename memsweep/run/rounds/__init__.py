"""Which trials a launch runs: the sweep's definition, its spelling, rounds of searches."""
