"""Ends or repeats work that hangs, dies or is orphaned."""
