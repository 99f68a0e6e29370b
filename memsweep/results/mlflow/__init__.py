"""Projection of the tables to MLflow: a run per trial and per sweep."""
