"""`python -m memsweep` is the command `memsweep`."""

from memsweep.cli import main

main()
