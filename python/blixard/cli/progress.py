"""Waiting for a VM, and showing how it goes: redrawn in place on a terminal, a line a change on a
pipe."""

import os
import sys
import time
from typing import TYPE_CHECKING, Final, Protocol

from blixard.cli.failure import Failure, failure
from blixard.cli.terminal import Options, cut, is_unicode, to_stderr, width_of
from blixard.cli.units import span
from blixard.cli.vm_view import first_line
from blixard.errors import Code
from blixard.model import Fix, Rejected

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import Client

POLL_S: Final = 0.25
PLAIN_EVERY_S: Final = 30.0
LOG_LINES: Final = 20

PHASES: Final = {
    "running": ("pending", "building", "starting", "running"),
    "stopped": ("stopping", "stopped"),
    "deleted": ("stopping", "deleted"),
}


class View(Protocol):
    """Shows a VM on its way."""

    def show(self, vm: "pb.Vm", left_ms: int) -> None: ...

    def close(self) -> None: ...


def wait_for(
    client: "Client", vm: "pb.Vm", goal: str, options: Options
) -> tuple["pb.Vm | None", str]:
    """Wait until the VM is `running`, `stopped` or `deleted`, which is its `goal`; returns it (None
    once it is deleted) and a sentence.

    Raises `Failure` if it failed, if somebody else changed its goal, or if the time is over.
    """
    began = time.monotonic()
    name, uid = vm.name, vm.uid
    client.learn_members()
    view = _view(goal, options)
    try:
        while True:
            now = _seen(client, name, uid)
            elapsed_ms = round((time.monotonic() - began) * 1000)
            if now is None:
                if goal == "deleted":
                    return None, f"{name} is deleted ({span(elapsed_ms)})"
                raise _deleted(name)
            _refuse_strayed(now, goal)
            if now.state == goal:
                where = f" on {now.node}" if now.node else ""
                return now, f"{name} is {now.state}{where} ({span(elapsed_ms)})"
            left_ms = options.wait_timeout_ms - elapsed_ms
            if left_ms <= 0:
                raise _wait_ended(now, options)
            view.show(now, left_ms)
            time.sleep(min(POLL_S, left_ms / 1000))
    finally:
        view.close()


def _seen(client: "Client", name: str, uid: int) -> "pb.Vm | None":
    """The VM as it is now; None once it, or the one that was meant, is gone."""
    from blixard.wire.client import CallFailed

    try:
        vm = client.vm_status(name).vm
    except CallFailed as failed:
        if failed.rejected.code is Code.NO_SUCH_VM:
            return None
        raise
    return vm if vm.uid == uid else None


def _refuse_strayed(vm: "pb.Vm", goal: str) -> None:
    """Raise `Failure` if the VM will not reach its goal any more."""
    if vm.wanted != goal:
        raise failure(
            Code.WAIT_ENDED,
            f'"{vm.name}" shall be {vm.wanted} now, so it will not be {goal}',
            why="somebody else asked for that meanwhile",
            fix="look at it",
            command=f"blixard vm status {vm.name}",
        )
    if vm.state == "failed":
        raise _failed(vm)


def _deleted(name: str) -> Failure:
    message = f'"{name}" was deleted while it was waited for'
    return failure(Code.NO_SUCH_VM, message, fix="all names", command="blixard vm list -o name")


def _failed(vm: "pb.Vm") -> Failure:
    headline, *log = vm.reason.text.rstrip().split("\n")
    where = f" on {vm.node}" if vm.node else ""
    if vm.reason.code in ("guest-exited", "guest-unhealthy"):
        code, what = Code.GUEST_DIED, "did not keep running"
    else:
        code, what = Code.BUILD_FAILED, "did not build"
    fixes = (
        Fix("try the same again", f"blixard vm start {vm.name} --wait"),
        Fix("then create it anew from a corrected source", f"blixard vm delete {vm.name}"),
    )
    rejected = Rejected(code, f"{vm.name} {what}{where}: {headline}", fixes=fixes)
    return Failure(rejected, facts=[f"| {line}" for line in log[-LOG_LINES:]])


def _wait_ended(vm: "pb.Vm", options: Options) -> Failure:
    return failure(
        Code.WAIT_ENDED,
        f'"{vm.name}" is {vm.state} after {span(options.wait_timeout_ms)}',
        why=f"{first_line(vm.reason.text)}; the wait ended, the work goes on",
        fix="see how it goes",
        command=f"blixard vm status {vm.name}",
    )


def _view(goal: str, options: Options) -> View:
    mode = options.progress
    if mode == "auto":
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        mode = "fancy" if terminal else "plain"
        if options.quiet or options.output == "json":
            mode = "none"
    match mode:
        case "fancy":
            return _Fancy(PHASES[goal])
        case "plain":
            return _Plain()
        case _:
            return _Silent()


class _Silent:
    def show(self, vm: "pb.Vm", left_ms: int) -> None:
        pass

    def close(self) -> None:
        pass


class _Plain:
    """A line at once when the state or the place changes, and one every 30 s in any case."""

    def __init__(self) -> None:
        self._last = ("", "")
        self._last_s = 0.0

    def show(self, vm: "pb.Vm", left_ms: int) -> None:  # noqa: ARG002 - a terminal shows it
        now = (vm.state, vm.node)
        if now == self._last and time.monotonic() - self._last_s < PLAIN_EVERY_S:
            return
        self._last, self._last_s = now, time.monotonic()
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        where = f" node={vm.node}" if vm.node else ""
        line = f"{at} {vm.name} {vm.state}{where} {first_line(vm.reason.text)}"
        to_stderr(line.rstrip())

    def close(self) -> None:
        pass


class _Fancy:
    """One line a phase, redrawn in place; the block is gone when the outcome is printed."""

    def __init__(self, phases: tuple[str, ...]) -> None:
        self._phases = phases
        self._done: list[tuple[str, str, int]] = []
        self._current = ("", "", time.monotonic())
        self._drawn = 0
        self._turn = 0
        unicode = is_unicode(sys.stderr)
        self._spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if unicode else "|/-\\"
        self._tick, self._dot = ("✓", "·") if unicode else ("*", ".")

    def show(self, vm: "pb.Vm", left_ms: int) -> None:
        state, detail, since_s = self._current
        if vm.state != state:
            if state:
                elapsed_ms = round((time.monotonic() - since_s) * 1000)
                self._done.append((state, detail, elapsed_ms))
            since_s = time.monotonic()
        where = f"{vm.node}: " if vm.node else ""
        self._current = (vm.state, where + first_line(vm.reason.text), since_s)
        self._draw(left_ms)

    def close(self) -> None:
        self._erase()
        sys.stderr.flush()

    def _draw(self, left_ms: int) -> None:
        state, detail, since_s = self._current
        spinner = self._spinner[self._turn % len(self._spinner)]
        self._turn += 1
        elapsed_ms = round((time.monotonic() - since_s) * 1000)
        lines = [self._line(self._tick, phase, text, ms) for phase, text, ms in self._done]
        lines.append(self._line(spinner, state, detail, elapsed_ms))
        if state in self._phases:
            coming = self._phases[self._phases.index(state) + 1 :]
            lines += [f"{self._dot} {phase}" for phase in coming]
        lines.append(f"Ctrl-C stops watching, not the VM. Gives up in {span(left_ms)}.")
        self._erase()
        width = (width_of(sys.stderr) or 80) - 1
        for line in lines:
            sys.stderr.write(cut(line, width, sys.stderr) + "\n")
        self._drawn = len(lines)
        sys.stderr.flush()

    def _line(self, mark: str, phase: str, text: str, elapsed_ms: int) -> str:
        width = (width_of(sys.stderr) or 80) - 1
        room = width - len(f"{mark} {phase:9} ") - 8
        return f"{mark} {phase:9} {cut(text, room, sys.stderr):{room}} {span(elapsed_ms):>7}"

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\033[{self._drawn}F\033[J")
            self._drawn = 0
