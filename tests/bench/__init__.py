"""Benchmarks: each file answers one question, prints a table for people and one JSON line for programs."""
