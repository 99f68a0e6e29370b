"""The sweeps that come with memsweep, one a file, each named like its analysis module."""
