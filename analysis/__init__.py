"""From tables to estimates, figures and the report: one module a question, each with `summarize` and `draw`."""
