"""Checks of what is stored and of the machine: verify, inspect, doctor."""
