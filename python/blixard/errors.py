"""What can go wrong, in three kinds.

The user's mistakes are values (`Rejected`, in `model`); the world's failures are `BlixardError`s,
which a later step heals or a person reads; our own mistakes are assertions, and the process dies.
Every failure a person can meet carries a `Code`. Its first digit is the exit code of the command
line (0 done, 1 the world failed, 2 wrong usage, 3 rejected, 4 not found, 5 cluster unavailable,
6 the wait ended first; 9 is a defect of Blixard and exits with 1).
"""

from enum import IntEnum


class Code(IntEnum):
    """The stable number of a failure; a number is never given a second meaning."""

    GUEST_DIED = 1001
    BUILD_FAILED = 1020
    SOURCE_UNREADABLE = 1021
    ADDRESS_IN_USE = 1031
    DATA_UNUSABLE = 1032
    NO_WATCHDOG = 1033
    INVARIANT_BROKEN = 1040

    USAGE = 2001
    NEEDS_ANSWER = 2010
    CONFIG_SYNTAX = 2030
    CONFIG_KEY = 2031
    CONFIG_VALUE = 2032
    CONFIG_UNREADABLE = 2033
    SOURCE_TOO_LARGE = 2040
    BAD_ARGUMENT = 2050

    EXISTS = 3001
    TOO_LARGE = 3010
    RULE_REFUSES = 3011
    CONTRADICTION = 3014
    NOT_RUNNING = 3016
    WOULD_BREAK_QUORUM = 3020
    BUSY = 3030
    STALE = 3031
    LEASE_RUNS = 3032
    CONSOLE_HELD = 3033
    DECLARED = 3040
    DECLINED = 3050
    NODE_TAKEN = 3060
    NODE_HOLDS_VMS = 3061
    NOT_A_MEMBER = 3062
    RELEASE_TOO_OLD = 3063
    STATE_DIFFERS = 3064
    REQUEST_FORGOTTEN = 3070
    EVENTS_GONE = 3071
    DATA_CORRUPT = 3080

    NO_SUCH_VM = 4001
    NO_SUCH_NODE = 4002

    NO_ADDRESS = 5001
    NO_LEADER = 5002
    NO_ROUTE = 5003
    OUTCOME_UNKNOWN = 5010

    WAIT_ENDED = 6001

    INTERNAL = 9001

    @property
    def label(self) -> str:
        """The code as it is printed, for example `BLX-3010`."""
        return f"BLX-{self.value}"

    @property
    def exit_status(self) -> int:
        """The exit status a command ends with when it fails with this code."""
        first = self.value // 1000
        return 1 if first == 9 else first


class BlixardError(Exception):
    """The world failed: a build, a disk, a peer. Carries what to tell a person.

    `message` says what happened in the user's nouns, `remedy` what to do next, `code` its number.
    """

    code = Code.INTERNAL

    def __init__(self, message: str, *, remedy: str = "", code: Code | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if code is not None:
            self.code = code
