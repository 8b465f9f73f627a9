"""What is on its way: at most one errand of a kind, and what is to be done when it lands."""

from collections.abc import Callable

from blixard.commands import Command
from blixard.model import Outcome
from blixard.ports import UNMEASURED, Done, Log, Meters, Unavailable


class Errands:
    """The errands of one daemon. What does not come back is begun again by a later step."""

    def __init__(self, log: Log, meters: Meters = UNMEASURED) -> None:
        self._log = log
        self._meters = meters
        self._under_way: set[str] = set()

    def propose(self, key: str, command: Command) -> None:
        """Propose a command, as the leader."""
        self.run(key, lambda done: self._log.propose(command, done), lambda _outcome: None)

    def submit(self, key: str, command: Command, landed: Callable[[Outcome], None]) -> None:
        """Have a command of this node proposed, wherever the leader is."""
        self.run(key, lambda done: self._log.submit(command, done), landed)

    def run(
        self, key: str, begin: Callable[[Done], None], landed: Callable[[Outcome], None]
    ) -> None:
        """Begin an errand, unless one of that key is under way."""
        if key in self._under_way:
            return
        self._under_way.add(key)

        def done(outcome: Outcome | Unavailable) -> None:
            self._under_way.discard(key)
            self._meters.landed(outcome)
            if not isinstance(outcome, Unavailable):
                landed(outcome)

        begin(done)
