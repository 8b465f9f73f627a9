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
    answer = _answer(f"{question} [y/N] ", question, "answer it beforehand with --yes", options)
    if answer.lower() not in ("y", "yes"):
        raise failure(Code.DECLINED, "nothing was changed")


def confirm_by_name(name: str, question: str, options: Options) -> str:
    """Have the name typed of what is at stake, unless --confirm gave it already; returns it.

    Raises `Failure` as `confirm` does.
    """
    typed = options.confirm
    if not typed:
        beforehand = f"say the name beforehand, with --confirm {name}"
        prompt = f"{question}\nType its name to go on: "
        typed = _answer(prompt, question, beforehand, options)
    if typed != name:
        given = f'"{typed}" is not the name; ' if typed else ""
        raise failure(Code.DECLINED, f"{given}nothing was changed", fix=f"the name is {name}")
    return typed


def _answer(prompt: str, question: str, beforehand: str, options: Options) -> str:
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if options.no_input or options.output == "json" or not on_terminal:
        raise failure(
            Code.NEEDS_ANSWER,
            "this needs an answer, and there is nobody to ask",
            why=question,
            fix=beforehand,
        )
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
