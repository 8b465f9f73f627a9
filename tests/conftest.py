"""What holds for all tests."""

import signal

# A test run in the background of a shell ignores SIGINT, and whatever it starts would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
