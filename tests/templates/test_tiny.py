"""The tiny template: built by Nix, booted by QEMU, and true to the contract of a runner."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from templates.guests import BOOT_S, FAULTY, TEMPLATES, Guest, nix, nix_build

TINY = TEMPLATES / "tiny"
NOBODY = 65534

pytestmark = pytest.mark.qemu


def build(flake: Path, name: str = "tiny") -> Path:
    built = nix_build(flake, name)
    assert built.returncode == 0, built.stderr
    return Path(json.loads(built.stdout)[0]["outputs"]["out"])


def is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture(scope="module")
def runner() -> Path:
    return build(TINY)


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    folder.mkdir()
    return folder


def test_guest_says_its_name_beats_and_powers_off_when_asked(runner: Path, web: Path) -> None:
    with Guest(runner, web) as guest:
        guest.wait_for("web: a tiny guest of Blixard, Linux")
        guest.wait_for("web: heartbeat 2")
        assert guest.shut_down() == 0
        assert guest.process.wait(timeout=5) == 0, "microvm-shutdown returned before QEMU was gone"
        guest.wait_for_end()
        assert "web: powers off\n" in guest.output


def test_guest_that_still_boots_is_shut_down_too(runner: Path, web: Path) -> None:
    with Guest(runner, web) as guest:
        while not is_held(web / "lock"):
            assert guest.process.poll() is None
        assert "heartbeat" not in guest.output
        assert guest.shut_down() == 0
        assert guest.wait_for_end(timeout_s=5) == 0


def test_shutdown_without_a_guest_has_nothing_to_wait_for(runner: Path, web: Path) -> None:
    for _ in range(2):
        ended = subprocess.run([runner / "bin/microvm-shutdown"], cwd=web, check=False, timeout=5)
        assert ended.returncode == 0
        (web / "lock").touch()


def test_folder_runs_one_guest_and_another_after_it_was_killed(runner: Path, web: Path) -> None:
    with Guest(runner, web) as first:
        first.wait_for("heartbeat 1")
        with Guest(runner, web) as second:
            assert second.wait_for_end() == 1
            assert f"a guest runs in {web} already" in second.output
        assert first.process.poll() is None
        first.process.kill()
        assert first.wait_for_end() == -9
    with Guest(runner, web) as third:
        third.wait_for("heartbeat 1")


def test_console_can_be_attached_without_taking_it_from_the_log(runner: Path, web: Path) -> None:
    with Guest(runner, web) as guest, socket.socket(socket.AF_UNIX) as console:
        guest.wait_for("heartbeat 1")
        console.settimeout(BOOT_S)
        console.connect(os.path.relpath(web / "console.sock"))
        assert console.recv(1)
        beats = guest.output.count("heartbeat")
        guest.wait_for(f"heartbeat {beats + 2}")


def test_plain_user_can_run_it(runner: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("plain")
    user = None
    if os.getuid() == 0:
        user = NOBODY
        os.chown(folder, user, user)
        for parent in list(folder.parents)[:2]:
            parent.chmod(0o755)
    with Guest(runner, folder, user) as guest:
        guest.wait_for("heartbeat 1")


def test_guest_that_dies_ends_the_run(tmp_path: Path, web: Path) -> None:
    dying = tmp_path / "dying"
    shutil.copytree(TINY, dying)
    (dying / "init").write_text("#!/bin/busybox sh\nexit 1\n")
    with Guest(build(dying), web) as guest:
        guest.wait_for_end()
        assert "Kernel panic" in guest.output


def test_missing_kernel_fails_the_build_with_a_remedy(tmp_path: Path) -> None:
    flake = tmp_path / "tiny"
    shutil.copytree(TINY, flake)
    script = flake / "build"
    script.write_text(script.read_text().replace("/opt/blixard/guest", str(tmp_path)))
    failed = nix_build(flake, "tiny")
    assert failed.returncode == 1
    assert f"no guest kernel at {tmp_path}/vmlinuz" in failed.stderr
    assert "`make guest`" in failed.stderr


def test_template_travels_in_a_command_and_says_what_it_needs() -> None:
    assert sum(file.stat().st_size for file in TINY.iterdir()) < 16 * 1024
    asked = "m: { inherit (m) hypervisor vcpu mem volumes shares interfaces devices; }"
    seen = nix(
        "eval", "--json", f"path:{TINY}#nixosConfigurations.tiny.config.microvm", "--apply", asked
    )
    assert json.loads(seen.stdout) == {
        "hypervisor": "qemu",
        "vcpu": 1,
        "mem": 128,
        "volumes": [],
        "shares": [],
        "interfaces": [],
        "devices": [],
    }


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("unevaluable", "unevaluable: an option is wrong"),
        ("unbuildable", "unbuildable: a part is missing"),
        ("unknown", "does not provide attribute"),
    ],
)
def test_faulty_vm_does_not_build(name: str, complaint: str) -> None:
    failed = nix_build(FAULTY, name)
    assert failed.returncode == 1
    assert complaint in failed.stderr


def test_faulty_vms_that_build_do_not_run(web: Path) -> None:
    assert not (build(FAULTY, "no-runner") / "bin/microvm-run").exists()
    with Guest(build(FAULTY, "dies"), web) as guest:
        assert guest.wait_for_end() == 7
        assert guest.output == "dies: the disk is on fire\n"
