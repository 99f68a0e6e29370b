"""The verbs of the command line, and its exit codes."""

DONE, SOME_FAILED, WRONG, ROUNDED, INTERRUPTED = 0, 1, 2, 3, 130
