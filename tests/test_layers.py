"""Who may import whom: the rings of the design, held by a walk over every import.

An outer ring sees inner ones, never the other way round. The pure rooms see no clock, no chance, no
input or output; what they need of the world is an argument. A finding says what to do instead.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "python" / "blixard"


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PURE = names(
    "__future__ bisect collections dataclasses enum functools hashlib itertools math typing"
)
"""The part of the standard library that gives the same answer on every host, always."""

GRPC = names("google grpc grpc_health grpc_reflection")

INSTEAD = {
    "time": "take the time as an argument: an entry's at_ms, or the Clock in ports",
    "datetime": "take the time as an argument, in integer milliseconds",
    "random": "let the proposer draw it and carry it in the command",
    "secrets": "let the proposer draw it and carry it in the command",
    "uuid": "identities are log indexes; the proposer carries anything else in the command",
    "asyncio": "begin the work through a port and see its result at a later step",
    "threading": "begin the work through a port and see its result at a later step",
    "logging": "return a value that says it; the daemon writes the log",
    "os": "give ports a verb for it and let a driver do it",
    "pathlib": "give ports a verb for it and let a driver do it",
    "socket": "give ports a verb for it and let a driver do it",
    "subprocess": "give ports a verb for it and let a driver do it",
}


@dataclass(frozen=True)
class Room:
    """What the modules of a room may import, besides one another."""

    ours: frozenset[str]
    libraries: frozenset[str] = frozenset()
    standard: frozenset[str] | None = None
    """Of the standard library; None means all of it."""
    lazily: frozenset[str] = frozenset()
    """Of ours and of libraries, inside functions or for types only: importing the room is fast."""
    pure: bool = False
    """No `await` either: nothing in it waits."""


NOUNS = names("commands errors health lease model policy source")
LAW = NOUNS | {"machine"}
SEAM = LAW | {"codec", "ports"}
WILL = names("agent errands leadership")

# A module belongs to the room with the longest name that its own begins with.
ROOMS = {
    # ring 0: nouns
    "errors": Room(NOUNS, standard=PURE, pure=True),
    "model": Room(NOUNS, standard=PURE, pure=True),
    "health": Room(NOUNS, standard=PURE, pure=True),
    "source": Room(NOUNS, standard=PURE, pure=True),
    "policy": Room(NOUNS, standard=PURE, pure=True),
    "commands": Room(NOUNS, standard=PURE, pure=True),
    "lease": Room(NOUNS, standard=PURE, pure=True),
    # ring 1: law
    "machine": Room(LAW, standard=PURE, pure=True),
    "codec": Room(LAW, names("cattrs msgspec"), standard=PURE, pure=True),
    # ring 2: choice. What `decide` weighs are the values of the seam; its verbs it never calls.
    "scheduler": Room(LAW, standard=PURE, pure=True),
    "decide": Room(LAW | {"ports", "scheduler"}, standard=PURE, pure=True),
    # ring 3: the seam
    "ports": Room(NOUNS, standard=PURE),
    # ring 4: will
    **{room: Room(LAW | WILL | names("decide ports"), standard=PURE, pure=True) for room in WILL},
    # ring 5: drivers, each with its one concern
    "raft": Room(SEAM | {"v1"}, GRPC | names("msgspec pysyncobj")),
    "drivers": Room(SEAM),
    "drivers.systemd": Room(SEAM, names("gi pydbus systemd")),
    # What it explains, it asks the scheduler itself.
    "wire": Room(SEAM | {"v1", "scheduler"}, GRPC),
    "metrics": Room(SEAM, names("prometheus_client")),
    "wire.client": Room(NOUNS | {"v1"}, GRPC),
    # ring 6: doors
    "config": Room(NOUNS, names("tomli")),
    "admission": Room(NOUNS | {"v1"}),
    "notify": Room(LAW, names("systemd")),
    "shutdown": Room(LAW | names("notify ports")),
    "demo": Room(NOUNS),
    # The shipped engine, law and agent over simulated ports: not one driver among them.
    "sim": Room(
        SEAM | WILL | names("admission decide raft scheduler v1"), names("google msgspec pysyncobj")
    ),
    # Of wire, the client's half.
    "cli": Room(
        NOUNS | {"config"},
        names("click"),
        lazily=names(
            "daemon demo sim v1 wire.calls wire.checks wire.client wire.policies wire.request_id"
            " wire.status"
        ),
    ),
    "cli.top_app": Room(names("cli"), names("rich textual")),
    "daemon": Room(
        SEAM
        | names("admission agent config drivers equipment metrics notify raft shutdown v1 wire")
    ),
    "equipment": Room(SEAM | names("agent config drivers")),
    "__main__": Room(names("cli")),
}

FAMILIES = ("nix", "process", "systemd")
"""The drivers that could each be taken away: none leans on another."""


@dataclass(frozen=True)
class Import:
    """One import statement's target. `ours` is dotted, below the package, and "" for its root."""

    line: int
    library: str
    ours: str | None
    lazy: bool


def violations(package: Path) -> list[str]:
    """Every breach in the package's source, as `path:line: what, and what to do instead`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] == "v1" or parts == ("__init__",):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        room = room_of(module)
        if room is None:
            found.append(f"{module}:1: belongs to no room; give it one in ROOMS, with its ring")
            continue
        tree = ast.parse(path.read_text())
        for line, breach in [*import_breaches(package, module, room, tree), *waits(room, tree)]:
            found.append(f"{module}:{line}: {breach}")
    return list(dict.fromkeys(found))


def room_of(module: str) -> Room | None:
    for length in range(module.count(".") + 1, 0, -1):
        prefix = ".".join(module.split(".")[:length])
        families = [name for name in ROOMS if prefix == name or prefix.startswith(f"{name}_")]
        if families:
            return ROOMS[max(families, key=len)]
    return None


def import_breaches(
    package: Path, module: str, room: Room, tree: ast.Module
) -> Iterator[tuple[int, str]]:
    for found in imports(package, module, tree):
        if found.ours is not None:
            yield from ((found.line, text) for text in our_breaches(module, room, found))
        elif found.library in sys.stdlib_module_names:
            if room.standard is not None and found.library not in room.standard:
                instead = INSTEAD.get(
                    found.library, "a pure room computes; give ports a verb for anything else"
                )
                yield found.line, f"imports {found.library}; {instead}"
        elif found.library not in room.libraries:
            if found.library not in room.lazily:
                instead = "that library has its own driver; reach it through a port"
                yield found.line, f"imports {found.library}; {instead}"
            elif not found.lazy:
                instead = "import it inside the function that needs it"
                yield found.line, f"imports {found.library} at its top; {instead}"


def our_breaches(module: str, room: Room, found: Import) -> Iterator[str]:
    assert found.ours is not None
    target = found.ours
    if covers(room.ours | {module.partition(".")[0]}, target):
        mine, theirs = family(module), family(target)
        if mine and theirs and mine != theirs:
            yield f"imports blixard.{target}; a driver never leans on another: share what is common"
    elif not covers(room.lazily, target):
        yield f"imports blixard.{target}; put the need behind a port, and let daemon plug it in"
    elif not found.lazy:
        yield f"imports blixard.{target} at its top; import it inside the function that needs it"


def covers(allowed: frozenset[str], target: str) -> bool:
    return not target or any(target == name or target.startswith(f"{name}.") for name in allowed)


def family(module: str) -> str | None:
    """The driver that a module belongs to: `nix` for `drivers.nix_command`."""
    folder, _, rest = module.partition(".")
    stem = rest.split(".")[0].split("_")[0]
    return stem if folder == "drivers" and stem in FAMILIES else None


def imports(package: Path, module: str, tree: ast.Module) -> Iterator[Import]:
    lazy = {id(inner) for outer in ast.walk(tree) if runs_later(outer) for inner in ast.walk(outer)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                targets = [alias.name for alias in aliases]
            case ast.ImportFrom(level=0, module=str(source), names=aliases):
                targets = [deepest(package, source, alias.name) for alias in aliases]
            case ast.ImportFrom():
                raise AssertionError(f"{module}:{node.lineno}: write the import absolutely")
            case _:
                continue
        for target in targets:
            library, _, below = target.partition(".")
            ours = below if library == package.name else None
            yield Import(node.lineno, library, ours, id(node) in lazy)


def runs_later(node: ast.AST) -> bool:
    """Whether importing the module leaves the body of `node` alone."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case _:
            return False


def deepest(package: Path, source: str, name: str) -> str:
    """`from blixard import codec` imports a module; `from blixard.codec import decode` does not."""
    below = package.parent.joinpath(*source.split("."), name)
    is_module = below.is_dir() or below.with_suffix(".py").exists()
    return f"{source}.{name}" if is_module else source


def waits(room: Room, tree: ast.Module) -> Iterator[tuple[int, str]]:
    if not room.pure:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield node.lineno, "waits; begin the work through a port and see it at a later step"
        elif isinstance(node, ast.Name) and node.id in {"open", "input", "print", "__import__"}:
            yield node.lineno, f"calls {node.id}; give ports a verb for it and let a driver do it"


def test_every_import_keeps_to_its_ring() -> None:
    found = violations(PACKAGE)
    assert not found, "\n".join(found)


def test_every_room_of_the_table_exists() -> None:
    gone = [room for room in ROOMS if not list(PACKAGE.glob(room.replace(".", "/") + "*"))]
    assert gone == [], "take the rooms that are gone out of ROOMS"


@pytest.mark.parametrize(
    ("file", "line", "finding"),
    [
        ("model.py", "import os", "model:1: imports os; give ports a verb"),
        ("machine/vms.py", "import time", "machine.vms:1: imports time; take the time as an"),
        ("machine/vms.py", "from time import time", "machine.vms:1: imports time"),
        ("machine/vms.py", "import msgspec", "machine.vms:1: imports msgspec"),
        ("machine/vms.py", "from blixard import scheduler", "machine.vms:1: imports blixard.sch"),
        ("machine/nodes.py", "async def wait() -> None: ...", "machine.nodes:1: waits"),
        ("codec.py", "import random", "codec:1: imports random; let the proposer draw it"),
        (
            "scheduler/planner.py",
            "import logging",
            "scheduler.planner:1: imports logging; return a value",
        ),
        ("decide.py", "def look() -> None:\n    import asyncio", "decide:2: imports asyncio"),
        ("ports.py", "from blixard.raft import engine", "ports:1: imports blixard.raft"),
        ("agent.py", "import time", "agent:1: imports time"),
        ("agent.py", "import msgspec", "agent:1: imports msgspec; that library has its own driver"),
        (
            "agent.py",
            "from blixard.drivers import nix",
            "agent:1: imports blixard.drivers.nix; put",
        ),
        ("raft/replica.py", "import blixard.agent", "raft.replica:1: imports blixard.agent"),
        ("raft/replica.py", "from blixard import wire", "raft.replica:1: imports blixard.wire"),
        ("drivers/nix.py", "import blixard.decide", "drivers.nix:1: imports blixard.decide"),
        ("drivers/nix.py", "import pydbus", "drivers.nix:1: imports pydbus"),
        ("drivers/nix_command.py", "from blixard.drivers import process", "never leans on another"),
        ("wire/server.py", "from blixard.drivers import nix", "wire.server:1: imports blixard.dri"),
        ("config.py", "import blixard.daemon", "config:1: imports blixard.daemon"),
        ("cli/__init__.py", "import grpc", "cli:1: imports grpc; that library has its own"),
        (
            "cli/__init__.py",
            "from blixard.wire import client",
            "imports blixard.wire.client at its",
        ),
        ("cli/__init__.py", "from blixard import agent", "cli:1: imports blixard.agent; put"),
        ("shortcut.py", "import grpc", "shortcut:1: belongs to no room"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, file: str, line: str, finding: str) -> None:
    package = tmp_path / "blixard"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / file
    path.write_text(f"{line}\n{path.read_text() if path.exists() else ''}")
    assert any(finding in found for found in violations(package))


def test_command_line_starts_without_what_only_verbs_need() -> None:
    heavy = ["cattrs", "grpc", "msgspec", "pydbus", "pysyncobj", "rich", "sqlite3", "textual"]
    script = f"import sys, blixard.cli; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]", "import it inside the verb that needs it"
