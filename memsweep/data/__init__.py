"""Inputs and labels of a trial, and their corruption."""
