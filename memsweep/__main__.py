"""`python -m memsweep` is the command `memsweep`."""

from memsweep.cli.app import main

if __name__ == "__main__":  # a process that `report` starts imports this file under another name
    main()
