"""From a sweep to running packs: what is left to do, how it is packed, and who trains it."""
