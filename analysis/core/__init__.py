"""What every question shares: frames, statistics, figures."""
