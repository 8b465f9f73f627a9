"""Questions before something is lost."""

import sys

from blixard.cli.failure import failure
from blixard.cli.terminal import Options
from blixard.errors import Code


def confirm(question: str, options: Options) -> None:
    """Ask, unless --yes answered already. Returns only for a yes.

    Raises `Failure`: BLX-3050 for a no (which is the default), BLX-2010 where nobody can be asked.
    """
    if options.yes:
        return
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if options.no_input or options.output == "json" or not on_terminal:
        raise failure(
            Code.NEEDS_ANSWER,
            "this needs an answer, and there is nobody to ask",
            why=question,
            fix="answer it beforehand with --yes",
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise failure(Code.DECLINED, "nothing was changed")
