"""Runs of MLflow made from the tables."""
