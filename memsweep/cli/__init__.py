"""What each verb does, and the codes that commands end with."""

DONE, SOME_FAILED, WRONG, ROUNDED, INTERRUPTED = 0, 1, 2, 3, 130
