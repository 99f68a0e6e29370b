"""Stored results: parts on disk, tables for readers, SQL over the tables, and MLflow."""
