"""Training of a pack: its program, state, steps, evaluation and checkpoints."""
