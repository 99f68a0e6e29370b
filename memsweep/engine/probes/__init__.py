"""Measures of trained members besides their counts: each a function over a pack, with its own table."""
