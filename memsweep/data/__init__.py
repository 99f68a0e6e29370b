"""Inputs and labels of a trial, and what is corrupted of them."""
