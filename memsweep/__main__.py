"""`python -m memsweep` is the command `memsweep`."""

from memsweep.cli.app import main

main()
