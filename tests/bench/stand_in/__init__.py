"""What workers of Ray train with in `tests.bench.scale`, instead of the engine; see sitecustomize.py."""
