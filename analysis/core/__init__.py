"""Frames, statistics and figures that all analysis modules share."""
