"""Measures of trained members beside their counts: each a function over a pack, with a table of its own."""
