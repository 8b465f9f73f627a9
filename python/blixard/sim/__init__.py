"""A whole cluster in one process, on simulated time, and the checkers of what it did."""
