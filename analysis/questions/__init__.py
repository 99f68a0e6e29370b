"""Analysis modules, each with `summarize` and `draw`."""
