"""What systemd says and what it means; the driver itself is tested on real hosts."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blixard.drivers.systemd import SystemdUnits
from blixard.drivers.systemd_facts import UnitFacts, object_path, unit_name, vm_name
from blixard.drivers.systemd_files import UnitFiles, UnitRecord
from blixard.errors import BlixardError, Code
from blixard.ports import UnitState


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        # As `busctl tree org.freedesktop.systemd1` shows them.
        ("dbus.service", "dbus_2eservice"),
        ("microvm@my-vm.service", "microvm_40my_2dvm_2eservice"),
        ("microvm@0a.service", "microvm_400a_2eservice"),
        ("6to4.mount", "_36to4_2emount"),
        ("a_b.service", "a_5fb_2eservice"),
        ("\u00e4.service", "_c3_a4_2eservice"),
    ],
)
def test_object_paths_are_those_of_the_bus(unit: str, path: str) -> None:
    assert object_path(unit) == f"/org/freedesktop/systemd1/unit/{path}"


def test_a_vm_and_its_unit() -> None:
    assert unit_name("my-vm") == "microvm@my-vm.service"
    assert vm_name("microvm@my-vm.service") == "my-vm"
    for other in (
        "microvm@.service",
        "microvm@a.b.service",
        "microvm@a.timer",
        "xmicrovm@a.service",
    ):
        assert vm_name(other) is None


PROPERTIES: dict[str, Any] = {
    "ActiveState": "active",
    "Job": (0, "/"),
    "ActiveEnterTimestampMonotonic": 5_000_000,
    "InvocationID": [0xAB] * 16,
    "ConditionResult": True,
    "ConditionTimestampMonotonic": 4_000_000,
    "Result": "success",
    "ExecMainCode": 0,
    "ExecMainStatus": 0,
}


def facts(processes: int = 0, **changes: Any) -> UnitFacts:
    return UnitFacts.of({**PROPERTIES, **changes}, processes)


@pytest.mark.parametrize(
    ("changes", "processes", "state"),
    [
        ({}, 0, UnitState.ACTIVE),
        ({"ActiveState": "reloading"}, 0, UnitState.ACTIVE),
        ({"ActiveState": "activating"}, 0, UnitState.STARTING),
        ({"ActiveState": "deactivating"}, 0, UnitState.STOPPING),
        ({"ActiveState": "inactive"}, 0, UnitState.EXITED),
        ({"ActiveState": "failed"}, 0, UnitState.EXITED),
        ({"ActiveState": "failed"}, 1, UnitState.STOPPING),
        ({"ActiveState": "inactive", "Job": (7, "/job/7")}, 0, UnitState.STARTING),
        ({"ActiveState": "failed", "Job": (7, "/job/7")}, 3, UnitState.STARTING),
    ],
)
def test_a_vm_has_exited_when_nothing_is_left_or_queued(
    changes: dict[str, Any], processes: int, state: UnitState
) -> None:
    assert facts(processes, **changes).state is state


@pytest.mark.parametrize(
    ("changes", "ending"),
    [
        ({"ExecMainCode": 1, "ExecMainStatus": 0}, "exited with status 0"),
        ({"ExecMainCode": 1, "ExecMainStatus": 3, "Result": "exit-code"}, "exited with status 3"),
        (
            {"ExecMainCode": 2, "ExecMainStatus": 9, "Result": "signal"},
            "killed by signal 9 (SIGKILL)",
        ),
        (
            {"ExecMainCode": 3, "ExecMainStatus": 11, "Result": "core-dump"},
            "killed by signal 11 (SIGSEGV)",
        ),
        (
            {"ExecMainCode": 2, "ExecMainStatus": 9, "Result": "oom-kill"},
            "killed by signal 9 (SIGKILL) (systemd: oom-kill)",
        ),
        ({"ExecMainCode": 2, "ExecMainStatus": 40}, "killed by signal 40"),
        ({"Result": "resources"}, "it has ended (systemd: resources)"),
        ({}, "it has ended"),
        ({"ConditionResult": False}, "it was not started: a condition of its unit is not met"),
        ({"ConditionResult": False, "ConditionTimestampMonotonic": 0}, "it has ended"),
    ],
)
def test_how_it_ended_in_words(changes: dict[str, Any], ending: str) -> None:
    assert facts(ActiveState="failed", **changes).ending == ending


def test_an_invocation_of_nothing_is_none() -> None:
    assert facts().invocation == "ab" * 16
    assert facts(InvocationID=[]).invocation == ""
    assert facts(InvocationID=[0] * 16).invocation == ""


@pytest.fixture
def files(tmp_path: Path) -> UnitFiles:
    (tmp_path / "state").mkdir()
    return UnitFiles(tmp_path / "state", tmp_path / "records")


def test_what_a_vm_is_to_run_is_noted_and_forgotten(tmp_path: Path, files: UnitFiles) -> None:
    assert files.records() == {}
    first = UnitRecord(3, 7, "/nix/store/one")
    files.prepare("web", first)
    files.prepare("web", replace(first, epoch=8, runner="/nix/store/two"))
    directory = tmp_path / "state/web"
    for link in ("current", "booted"):
        assert (directory / link).readlink() == Path("/nix/store/two")
    assert directory.stat().st_mode & 0o777 == 0o775
    assert files.records() == {"web": UnitRecord(3, 8, "/nix/store/two")}
    (directory / "disk.img").touch()
    files.forget("web")
    assert files.records() == {}
    assert not (directory / "current").is_symlink()
    assert (directory / "disk.img").exists(), "volumes stay"
    files.prepare("web", first)


def test_a_directory_that_was_left_half_made_is_finished(tmp_path: Path, files: UnitFiles) -> None:
    files.records()
    directory = tmp_path / "state/web"
    directory.mkdir(mode=0o700)
    files.prepare("web", UnitRecord(3, 7, "/nix/store/one"))
    assert directory.stat().st_mode & 0o777 == 0o775


def test_a_directory_of_somebody_else_is_not_touched(tmp_path: Path, files: UnitFiles) -> None:
    files.records()
    (tmp_path / "state/theirs").mkdir()
    (tmp_path / "state/theirs/toplevel").touch()
    with pytest.raises(BlixardError, match="belongs to a VM that is not Blixard's"):
        files.prepare("theirs", UnitRecord(3, 7, "/nix/store/one"))
    assert [path.name for path in (tmp_path / "state/theirs").iterdir()] == ["toplevel"]
    assert files.records() == {}


def test_ours_are_those_with_a_record_or_a_mark(tmp_path: Path, files: UnitFiles) -> None:
    files.records()
    files.prepare("recorded", UnitRecord(3, 7, "/nix/store/one"))
    files.prepare("marked", UnitRecord(3, 7, "/nix/store/one"))
    (tmp_path / "records/marked.json").unlink()
    (tmp_path / "state/theirs").mkdir()
    assert files.ours({"theirs", "marked"}) == {"recorded", "marked"}
    assert files.ours(set()) == {"recorded"}


@pytest.mark.parametrize("damage", ["{", "[]", json.dumps({"uid": 3})])
def test_a_damaged_record_is_no_guess(tmp_path: Path, files: UnitFiles, damage: str) -> None:
    files.records()
    (tmp_path / "records/web.json").write_text(damage)
    with pytest.raises(BlixardError, match="is damaged") as refused:
        files.records()
    assert refused.value.code is Code.DATA_CORRUPT
    assert "microvm@web.service" in refused.value.remedy


async def test_a_host_without_its_libraries_is_told_what_to_install(
    files: UnitFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydbus", None)
    monkeypatch.delitem(sys.modules, "blixard.drivers.systemd_bus", raising=False)
    with pytest.raises(BlixardError, match="pydbus") as refused:
        await SystemdUnits(files, wake=lambda: None).open()
    assert "python3-pydbus" in refused.value.remedy
    assert refused.value.code is Code.CONFIG_VALUE
