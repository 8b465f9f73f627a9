"""What happened in a simulated history: lines for people, and one hash for all of it."""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

TAIL_LINES: Final = 40
"""So many lines are kept to show what led to a violation."""


class Trace:
    """Every event goes into the hash; lines are kept, and told if somebody listens."""

    def __init__(self, now_us: Callable[[], int], tell: Callable[[str], None] | None) -> None:
        self._now_us = now_us
        self._tell = tell
        self._hash = blake2b(digest_size=16)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.events = 0

    def aside(self, who: str, what: str) -> None:
        """Something that follows from what the hash knows: only for who listens."""
        if self._tell is not None:
            self._tell(self._line(who, what))

    def note(self, who: str, what: str) -> None:
        """Something that a person would want to read."""
        line = self._line(who, what)
        self.tail.append(line)
        self.mix(line.encode())
        if self._tell is not None:
            self._tell(line)

    def mix(self, data: bytes) -> None:
        """Something of which only the hash needs to know."""
        self.events += 1
        self._hash.update(data)

    def _line(self, who: str, what: str) -> str:
        return f"{self._now_us() / 1e6:12.6f}  {who:<10}  {what}"

    @property
    def digest(self) -> str:
        """The hash so far, in hex."""
        return self._hash.copy().hexdigest()
