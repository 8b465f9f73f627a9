"""How a command ends without success, and how that is told: to a person or to a program."""

import sys
from collections.abc import Sequence

from blixard.cli.terminal import Options, harmless, is_unicode, styled, to_stderr
from blixard.errors import Code
from blixard.model import Fix, Rejected


class Failure(Exception):
    """Ends a command. `facts` are lines that show the circumstances."""

    def __init__(
        self, rejected: Rejected, *, facts: Sequence[str] = (), request_id: str = ""
    ) -> None:
        super().__init__(rejected.message)
        self.rejected = rejected
        self.facts = tuple(facts)
        self.request_id = request_id


def failure(
    code: Code, message: str, *, why: str = "", fix: str = "", command: str = ""
) -> Failure:
    """A failure with at most one way out."""
    fixes = (Fix(fix, command),) if fix or command else ()
    return Failure(Rejected(code, message, why=why, fixes=fixes))


def tell(failed: Failure, options: Options) -> None:
    """Print a failure on stderr: readable lines, or one JSON line if JSON was asked for."""
    lines = [_as_json(failed)] if options.output == "json" else _as_text(failed, options)
    to_stderr("\n".join(lines))


def _as_json(failed: Failure) -> str:
    import json

    rejected = failed.rejected
    return json.dumps(
        {
            "schema": "blixard.v1/error",
            "code": rejected.code.label,
            "message": rejected.message,
            "why": rejected.why or None,
            "facts": list(failed.facts),
            "fixes": [
                {"text": fix.text or None, "command": fix.command or None} for fix in rejected.fixes
            ],
            "exit_code": rejected.code.exit_status,
            "request_id": failed.request_id or None,
        },
        ensure_ascii=not is_unicode(sys.stderr),
    )


def _as_text(failed: Failure, options: Options) -> list[str]:
    rejected = failed.rejected
    label = styled(f"error[{rejected.code.label}]", "red", sys.stderr, options)
    lines = [f"{label}: {harmless(rejected.message)}"]
    lines += [f"  {harmless(fact)}".rstrip() for fact in failed.facts]
    if rejected.why:
        lines.append(f"  why: {harmless(rejected.why)}")
    return lines + _fix_lines(rejected.fixes)


def _fix_lines(fixes: Sequence[Fix]) -> list[str]:
    """Commands to paste in a column of their own, each with its words beside it."""
    width = max((len(fix.command) for fix in fixes), default=0)
    lines = []
    for number, fix in enumerate(fixes):
        lead = "  fix: " if number == 0 else "       "
        words = fix.text.rstrip(":")
        lines.append(f"{lead}{fix.command:{width}}   {words}" if fix.command else f"{lead}{words}")
    return [line.rstrip() for line in lines]
