"""Which trials a launch runs: the sweep's definition, stored spelling of numbers, and rounds of searches."""
