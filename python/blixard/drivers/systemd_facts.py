"""What systemd says of a unit (org.freedesktop.systemd1(5)), and what that means."""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blixard.drivers.ending import in_words
from blixard.ports import UnitState

_UNIT = re.compile(r"microvm@([a-z0-9-]+)\.service")

# waitid(2): how ExecMainStatus is to be read.
_CLD_EXITED, _CLD_KILLED, _CLD_DUMPED = 1, 2, 3

# Results that say no more than the status of the main process does.
_PLAIN_RESULTS = ("success", "exit-code", "signal", "core-dump")


def unit_name(vm: str) -> str:
    """The unit of a VM. A DNS label needs no escaping: `-` stays as it is in an instance's name
    (systemd.unit(5))."""
    return f"microvm@{vm}.service"


def vm_name(unit: str) -> str | None:
    """The VM of a unit, if it is the unit of one that can be Blixard's."""
    match = _UNIT.fullmatch(unit)
    return match[1] if match else None


def object_path(unit: str) -> str:
    """Where the bus has a unit (sd_bus_path_encode(3))."""
    label = "".join(
        char if char.isascii() and char.isalnum() and (index or not char.isdigit()) else escaped
        for index, char in enumerate(unit)
        for escaped in ["".join(f"_{byte:02x}" for byte in char.encode())]
    )
    return f"/org/freedesktop/systemd1/unit/{label}"


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A unit at one moment."""

    active_state: str = "inactive"
    has_job: bool = False
    """A start or stop is queued or under way."""
    processes: int = 0
    """How many processes are left in the cgroup of a unit that is not active."""
    active_since_us: int = 0
    """CLOCK_MONOTONIC at which it became active, in microseconds."""
    invocation: str = ""
    """Names the life of the unit, as in the journal."""
    condition_met: bool = True
    result: str = "success"
    main_code: int = 0
    main_status: int = 0

    @classmethod
    def of(cls, properties: Mapping[str, Any], processes: int) -> "UnitFacts":
        """From the properties of a unit and a service, as they come from the bus."""
        invocation = bytes(properties.get("InvocationID", b"")).hex()
        return cls(
            active_state=properties["ActiveState"],
            has_job=properties["Job"][0] != 0,
            processes=processes,
            active_since_us=properties["ActiveEnterTimestampMonotonic"],
            invocation=invocation if invocation.strip("0") else "",
            # Before the first start there is a result too, and no time of it.
            condition_met=properties["ConditionResult"]
            or properties["ConditionTimestampMonotonic"] == 0,
            result=properties["Result"],
            main_code=properties["ExecMainCode"],
            main_status=properties["ExecMainStatus"],
        )

    @property
    def state(self) -> UnitState:
        """A VM has exited when its unit is down, nothing is queued, and its cgroup is empty."""
        match self.active_state:
            case "active" | "reloading" | "refreshing":
                return UnitState.ACTIVE
            case "deactivating":
                return UnitState.STOPPING
            case "inactive" | "failed" if not self.has_job:
                return UnitState.STOPPING if self.processes else UnitState.EXITED
            case _:
                return UnitState.STARTING

    @property
    def was_killed(self) -> bool:
        return (self.main_code, self.main_status) == (_CLD_KILLED, signal.SIGKILL)

    @property
    def tells_an_ending(self) -> bool:
        """A unit that was unloaded knows nothing any more, and may be asked too late."""
        return self.main_code != 0 or self.result != "success" or not self.condition_met

    @property
    def ending(self) -> str:
        """How a unit that has exited ended, in words."""
        match self.main_code:
            case _ if not self.condition_met:
                return "it was not started: a condition of its unit is not met"
            case _ if self.result == "exec-condition":
                return "it was not started: its gate was closed"
            case code if code == _CLD_EXITED:
                words = in_words(self.main_status)
            case code if code in {_CLD_KILLED, _CLD_DUMPED}:
                words = in_words(-self.main_status)
            case _:
                words = "it has ended"
        return words if self.result in _PLAIN_RESULTS else f"{words} (systemd: {self.result})"
