"""Jobs of a real SLURM, whose nodes are namespaces of this machine."""
