"""The rules of the house that a machine can keep. Each message says what to do instead."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FILE_LINES = 400
FUNCTION_LINES = 60

JUNK_DRAWER = re.compile(
    r"(?:^|_)(?:utils?|common|helpers?|manager|misc|new|optimized|simple|v\d+)(?:_|$)"
)

# Written so that this file does not find itself.
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E|X{3})\b|\bNot[I]mplementedError\b|not [i]mplemented")
ONE_MACHINE = re.compile(r"/[w]ork/|/[f]arm/|/root/[.]|/home/[a-z]")
ONE_REGISTRY = re.compile(r"https?[:]//(?:deb|pypi|files|registry)[.]")


def files() -> list[Path]:
    """All text that is, or is about to be, under version control, and is not generated."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / line for line in sorted(set(listed.stdout.splitlines())))
    return [
        path
        for path in paths
        if path.is_file() and path.suffix != ".png" and path.parent != ROOT / "python/blixard/v1"
    ]


def too_long(path: Path, text: str) -> Iterator[str]:
    if path.suffix != ".py":
        return
    lines = len(text.splitlines())
    if lines > FILE_LINES:
        yield f"1: has {lines} lines; split it by what a reader would look for"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {length} lines; name its parts"


def badly_named(path: Path, _text: str) -> Iterator[str]:
    for name in (path.stem, path.parent.name):
        if path.suffix == ".py" and JUNK_DRAWER.search(name):
            yield f"1: is named {name}; call it what it holds, and replace instead of adding beside"


def unsafe(path: Path, text: str) -> Iterator[str]:
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=aliases) if any(one.name == "pickle" for one in aliases):
                yield f"{node.lineno}: imports pickle, which runs what it reads; use blixard.codec"
            case ast.ImportFrom(module="pickle"):
                yield f"{node.lineno}: imports pickle, which runs what it reads; use blixard.codec"
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                yield f"{node.value.lineno}: starts a shell; pass a list of arguments"
            case ast.Attribute(value=ast.Name(id="os"), attr="system" | "popen"):
                yield f"{node.lineno}: starts a shell; pass a list of arguments to subprocess"


def unfinished(_path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := UNFINISHED.search(line):
            yield f"{number}: says {found[0]}; finish it, or leave it out"


def tied_to_a_place(_path: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := ONE_MACHINE.search(line):
            yield f"{number}: names {found[0]}, which other machines lack; derive the path"
        if found := ONE_REGISTRY.search(line):
            yield f"{number}: names {found[0]}...; the machine's own settings say where to fetch"


Rule = Callable[[Path, str], Iterator[str]]
RULES: tuple[Rule, ...] = (too_long, badly_named, unsafe, unfinished, tied_to_a_place)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house_rule(rule: Rule) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{finding}"
        for path in files()
        for finding in rule(path, path.read_text(errors="replace"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (too_long, "long.py", "pass\n" * (FILE_LINES + 1)),
        (too_long, "long.py", "def f():\n" + "    pass\n" * FUNCTION_LINES),
        (badly_named, "wire_utils.py", ""),
        (badly_named, "helpers/wire.py", ""),
        (badly_named, "server_v2.py", ""),
        (unsafe, "a.py", "import pickle"),
        (unsafe, "a.py", "from pickle import loads"),
        (unsafe, "a.py", "run('ls', shell=True)"),
        (unsafe, "a.py", "os.system('ls')"),
        (unfinished, "a.nix", "# TO" + "DO: more"),
        (unfinished, "a.py", "raise NotImplemented" + "Error"),
        (tied_to_a_place, "a.md", "see /wo" + "rk/x"),
        (tied_to_a_place, "a.txt", "https:/" + "/pypi.example"),
    ],
)
def test_a_breach_is_found(rule: Rule, name: str, text: str) -> None:
    assert list(rule(Path(name), text))
