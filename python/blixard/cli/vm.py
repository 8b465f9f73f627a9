"""`blixard vm`: the verbs of a VM's life."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from blixard.cli import flags
from blixard.cli.change import change
from blixard.cli.connect import CHANGE_MS
from blixard.cli.console import console, logs
from blixard.cli.failure import failure
from blixard.cli.lazy import Noun
from blixard.cli.question import confirm
from blixard.cli.source import complete, guest_check
from blixard.cli.terminal import Options
from blixard.cli.vm_look import list_, status, why
from blixard.cli.vm_names import complete_names, names
from blixard.cli.vm_view import policy_text
from blixard.cli.why import explain_candidate
from blixard.errors import Code

if TYPE_CHECKING:
    from blixard.v1 import blixard_pb2 as pb
    from blixard.wire.client import Client

MAX_NODE_ID = 65_535
LOCK_MS = 120_000
"""How long creating may take: a flake reference is fetched before it can be locked."""


@click.group(cls=Noun, aliases={"ls": "list", "rm": "delete", "show": "status"})
def vm() -> None:
    """Create and run VMs."""


@vm.command()
@click.argument("positional", metavar="[NAME]", required=False)
@click.option("--name", help="The VM's name, if it is not given before the flags.")
@click.option(
    "--config",
    "what",
    required=True,
    metavar="WHAT",
    help="REF#NAME, a microvm.nix, a folder, or the store path of a runner.",
)
@click.option("--vcpus", type=int, default=1, help="Virtual CPUs (1).")
@click.option("--memory", "memory_mib", type=flags.memory, default="512", help="512, 2GiB (512).")
@click.option(
    "--disk", "disk_mib", type=flags.memory, default="0", help="Disk set aside on its host (none)."
)
@click.option("--stopped", is_flag=True, help="Declare it, and do not start it yet.")
@click.option("--dry-run", is_flag=True, help="Say where it would go, and create nothing.")
@flags.policy
@flags.check
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def create(
    options: Options,
    /,
    positional: str | None,
    name: str | None,
    what: str,
    stopped: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Declare a VM; it starts at once, unless --stopped.

    \b
    blixard vm create web --config github:me/infra#web --vcpus 2 --wait
    blixard vm create web --config ./microvm.nix --memory 2GiB
    blixard vm create web --config ./result --failover always
    blixard vm create web --config ./result --group web --apart web/zone --dry-run
    """
    if (name is None) == (positional is None):
        raise failure(
            Code.USAGE, "create takes one name", fix="blixard vm create NAME --config WHAT"
        )
    wanted = name or positional or ""
    from blixard.v1 import blixard_pb2 as pb

    request = pb.CreateVmRequest(
        name=wanted,
        stopped=stopped,
        **{size: given.pop(size) for size in ("vcpus", "memory_mib", "disk_mib")},
        policy=_policy(given),
    )
    complete(request, what, options)
    timeout_ms = LOCK_MS if request.HasField("flake") else CHANGE_MS
    if dry_run:
        explain_candidate(request, options, timeout_ms)
        return
    change(
        [wanted],
        lambda client, _: client.create_vm(request),
        options,
        goal="stopped" if stopped else "running",
        timeout_ms=timeout_ms,
    )


def _check(given: Mapping[str, flags.Given]) -> "pb.GuestCheck":
    parts = {
        "interval_ms": given["check_interval"],
        "timeout_ms": given["check_timeout"],
        "failures": given["check_failures"],
        "start_period_ms": given["check_start_period"],
        "on_failure": given["check_on_failure"],
    }
    return guest_check(str(given["check"]), parts)


def _policy(given: Mapping[str, flags.Given]) -> "pb.Policy":
    """What was given of a policy. An empty text alone stands for no terms."""
    from blixard.v1 import blixard_pb2 as pb

    scalars: dict[str, Any] = {
        key: value
        for key, value in given.items()
        if not isinstance(value, tuple) and not key.startswith("check")
    }
    if given["check"] is not None:
        scalars["check"] = _check(given)
    elif any(value is not None for key, value in given.items() if key.startswith("check")):
        fix = "say --check too: it is replaced as a whole"
        raise failure(Code.USAGE, "the flags of a check need a check", fix=fix)
    terms = {
        key: pb.Terms(items=[item for item in value if item])
        for key, value in given.items()
        if isinstance(value, tuple) and value
    }
    return pb.Policy(**cast("Mapping[str, Any]", {**scalars, **terms}))


@vm.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--owner", required=True, metavar="NODE", help="The node whose configuration this is."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@flags.shared
@click.pass_obj
def apply(options: Options, /, file: Path, owner: str, dry_run: bool) -> None:
    """Declare the VMs of a file: create, change, or disown them.

    The owner alone changes them. What is declared no more goes on, until it is deleted.

    \b
    blixard vm apply vms.toml --owner node-1 --dry-run
    blixard vm apply vms.toml --owner node-1
    """
    from blixard.cli.apply import apply as applied

    number = owner.removeprefix("node-")
    if not number.isdecimal() or not 1 <= int(number) <= MAX_NODE_ID:
        message = f'--owner: "{owner}" is no node'
        raise failure(Code.BAD_ARGUMENT, message, fix="write node-1, or the number alone")
    applied(file, int(number), dry_run, options)


@vm.command("set")
@click.argument("name", shell_complete=complete_names)
@flags.policy
@flags.check
@flags.request_id
@flags.shared
@click.pass_obj
def set_(options: Options, /, name: str, **policy: flags.Given) -> None:
    """Change how the cluster treats a VM when something fails.

    --on-quorum-loss and what says where it may run hold from the next start on, the others at once.

    \b
    blixard vm set web --failover always
    blixard vm set web --on-quorum-loss keep --restart-limit 0
    blixard vm set web --require zone=a --prefer-apart web
    blixard vm set web --require ''
    blixard vm set web --check http://10.0.0.9/health --check-on-failure restart
    """
    changed = _policy(policy)
    if not changed.ListFields():
        raise failure(
            Code.USAGE,
            "nothing is to be changed",
            fix="say what: blixard vm set --help lists it",
        )

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        answer = client.set_vm_policy(pb.SetVmPolicyRequest(name=name, policy=changed))
        answer.note = answer.note or f"{name}: {policy_text(answer.vm)}"
        return answer

    change([name], send, options, goal="")


@vm.command()
@names
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def start(
    options: Options,
    names: tuple[str, ...],
) -> None:
    """Start VMs; one that runs already is left alone."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        return client.start_vm(pb.StartVmRequest(name=name))

    change(names, send, options, goal="running")


@vm.command()
@names
@flags.stopping
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def stop(
    options: Options,
    names: tuple[str, ...],
    grace_ms: int | None,
    kill: bool,
) -> None:
    """Stop VMs gracefully, and keep them stopped."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        return client.stop_vm(pb.StopVmRequest(name=name, grace_ms=grace_ms, kill=kill))

    change(names, send, options, goal="stopped")


@vm.command()
@names
@flags.stopping
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def restart(
    options: Options,
    names: tuple[str, ...],
    grace_ms: int | None,
    kill: bool,
) -> None:
    """Stop VMs gracefully, and start them again, perhaps on another node."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb

        return client.restart_vm(pb.RestartVmRequest(name=name, grace_ms=grace_ms, kill=kill))

    change(names, send, options, goal="running")


@vm.command()
@names
@click.option("--if-exists", is_flag=True, help="A VM that does not exist is no failure.")
@flags.stopping
@flags.waiting
@flags.request_id
@flags.asking
@flags.shared
@click.pass_obj
def delete(
    options: Options,
    names: tuple[str, ...],
    if_exists: bool,
    grace_ms: int | None,
    kill: bool,
) -> None:
    """Stop VMs and forget them; their volumes stay on their hosts."""

    def send(client: "Client", name: str) -> "pb.ChangeResponse":
        from blixard.v1 import blixard_pb2 as pb
        from blixard.wire.client import CallFailed

        try:
            return client.delete_vm(pb.DeleteVmRequest(name=name, grace_ms=grace_ms, kill=kill))
        except CallFailed as failed:
            if if_exists and failed.rejected.code is Code.NO_SUCH_VM:
                return pb.ChangeResponse(note=f"{name} does not exist")
            raise

    confirm(f"Delete {', '.join(names)}? The volumes stay, the declaration is lost.", options)
    change(names, send, options, goal="deleted")


@vm.command()
@click.argument("name", shell_complete=complete_names)
@click.option("--to", default="", metavar="NODE", help="Where it is to go (the best other node).")
@flags.stopping
@flags.waiting
@flags.request_id
@flags.shared
@click.pass_obj
def move(options: Options, /, name: str, to: str, grace_ms: int | None, kill: bool) -> None:
    """Let a VM go on on another node: it is built there, stops here, and starts there.

    It goes on where it is until the other node is ready. With --wait the time between its end and
    its start is told. To the node it is on, a move that is under way is called off.

    \b
    blixard vm move web --wait
    blixard vm move web --to node-3
    """
    from blixard.cli.moving import move as moved

    moved(name, to, grace_ms, kill, options)


for verb in (list_, status, why, logs, console):
    vm.add_command(verb)
