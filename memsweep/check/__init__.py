"""Checks of stored results and of the machine: verify, inspect, doctor."""
