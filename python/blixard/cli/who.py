"""Who is at the command line."""

import os
from typing import Final

LONGEST: Final = 128


def who() -> str:
    """The person, as this host knows them, in characters that may stand in a call's metadata: the
    cluster keeps it on record."""
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    name = f"{user}@{os.uname().nodename}"
    return "".join(one if " " <= one <= "~" else "?" for one in name)[:LONGEST]
