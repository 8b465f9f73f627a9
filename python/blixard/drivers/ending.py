"""How a process ended, in words. Standard library only."""

import signal


def in_words(returncode: int) -> str:
    """How a process ended, from its return code as `subprocess` gives it: negative for a signal."""
    if returncode >= 0:
        return f"exited with status {returncode}"
    try:
        return f"killed by signal {-returncode} ({signal.Signals(-returncode).name})"
    except ValueError:
        return f"killed by signal {-returncode}"
