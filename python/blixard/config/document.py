"""A configuration file: what TOML makes of it, and where in it something is wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from blixard.config.keys import KEYS, Key, WrongValueError, shown
from blixard.errors import Code
from blixard.model import Fix, Rejected

MAX_PROBLEMS: Final = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and an excerpt of the file that shows where."""

    rejected: Rejected
    facts: tuple[str, ...] = ()


class Misconfigured(Exception):
    """The configuration cannot be used; `problems` holds all reasons, ten at most."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].rejected.message)
        self.problems = tuple(problems[:MAX_PROBLEMS])


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration file: its name, its text, and what TOML makes of it."""

    path: str
    text: str
    tables: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Document":
        import tomli

        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise Misconfigured([_unreadable(path, str(why))]) from error
        try:
            return cls(str(path), text, tomli.loads(text))
        except tomli.TOMLDecodeError as error:
            document = cls(str(path), text, {})
            raise Misconfigured([document.syntax_error(str(error))]) from error

    def syntax_error(self, said: str) -> Problem:
        """What the parser said, `... (at line 3, column 7)`, as a problem."""
        what, _, where = said.partition(" (at ")
        position = re.match(r"line (\d+), column (\d+)", where)
        line, column = (int(position[1]), int(position[2])) if position else (0, 0)
        rejected = Rejected(
            Code.CONFIG_SYNTAX,
            f"{Path(self.path).name} is no valid TOML",
            fixes=() if position else (Fix(what),),
        )
        return Problem(rejected, self.excerpt(line, column, 1, what))

    def place_of(self, table: str, key: str) -> tuple[int, int]:
        """Line and column of a key, from 1; (0, 0) if no plain line holds it."""
        wanted = re.compile(rf"""(\s*)["']?{re.escape(key)}["']?\s*=""")
        header = re.compile(r"""\s*\[+\s*["']?([^\]"']*?)["']?\s*\]""")
        current = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            headed = header.match(line)
            if headed:
                current = headed[1]
                if current in (f"{table}.{key}", key if not table else ""):
                    return number, line.index("[") + 2
            elif current == table and (found := wanted.match(line)):
                return number, len(found[1]) + 1
        return 0, 0

    def excerpt(self, line: int, column: int, width: int, remark: str) -> tuple[str, ...]:
        """The place and its line before, with a remark under `width` characters."""
        if line < 1:
            return ()
        lines = self.text.splitlines() or [""]
        margin = len(str(line)) + 1
        shown = range(max(1, line - 1), min(line, len(lines)) + 1)
        return (
            f"--> {self.path}:{line}:{column}",
            f"{'':{margin}} |",
            *(f"{number:{margin}} | {lines[number - 1]}".rstrip() for number in shown),
            f"{'':{margin}} | {'':{column - 1}}{'^' * width} {remark}".rstrip(),
        )


def _unreadable(path: Path, why: str) -> Problem:
    return Problem(
        Rejected(
            Code.CONFIG_UNREADABLE,
            f'cannot read the configuration "{path}"',
            why=why,
            fixes=(Fix("name the file with --config, or say everything with flags"),),
        )
    )


Known = Mapping[str, Mapping[str, Key]]
"""The keys of each table."""


def checked(
    tables: Mapping[str, Any],
    document: Document | None,
    problems: list[Problem],
    known: Known = KEYS,
) -> dict[str, dict[str, Any]]:
    """The values that pass their checks. `document` is None for flags, which have no positions."""
    values: dict[str, dict[str, Any]] = {}
    for table, keys in tables.items():
        if table not in known:
            assert document is not None
            problems.append(_unknown(document, "", table, known))
            continue
        if not isinstance(keys, dict):
            wrong = WrongValueError(
                f"{shown(keys)} is no table", f"write [{table}] on a line above"
            )
            problems.append(_wrong_value(document, "", table, wrong))
            continue
        for name, raw in keys.items():
            key = known[table].get(name)
            if key is None:
                assert document is not None
                problems.append(_unknown(document, table, name, known))
                continue
            try:
                values.setdefault(table, {})[name] = key.check(raw)
            except WrongValueError as wrong:
                problems.append(_wrong_value(document, table, name, wrong))
    return values


def _unknown(document: Document, table: str, name: str, known: Known) -> Problem:
    import difflib

    names = sorted(known[table] if table else known)
    near = difflib.get_close_matches(name, names, n=1)
    remark = f'did you mean "{near[0]}"?' if near else ""
    line, column = document.place_of(table, name)
    what = f'unknown key "{name}"' if table else f'unknown table or key "{name}"'
    within = f"keys of [{table}]" if table else "tables"
    rejected = Rejected(
        Code.CONFIG_KEY,
        f"{what} in {Path(document.path).name}",
        fixes=(Fix(remark),) if remark and not line else (),
    )
    facts = document.excerpt(line, column, len(name), remark)
    return Problem(rejected, (*facts, f"{within}: {', '.join(names)}"))


def _wrong_value(
    document: Document | None, table: str, name: str, wrong: WrongValueError
) -> Problem:
    if document is None:
        told, facts = KEYS[table][name].flag, tuple[str, ...]()
    else:
        told = f"{table}.{name}" if table else name
        facts = document.excerpt(*document.place_of(table, name), len(name), wrong.is_wrong)
    fixes = (Fix(wrong.remedy),)
    return Problem(Rejected(Code.CONFIG_VALUE, f"{told}: {wrong.is_wrong}", fixes=fixes), facts)
