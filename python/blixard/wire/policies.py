"""The policy of a VM on the wire: read with its shape checked, and shown."""

from collections.abc import Callable
from typing import Final, Literal, TypeVar

from blixard.policy import (
    MAX_WORD,
    Failover,
    GuestCheck,
    OnQuorumLoss,
    Policy,
    Relation,
    Strategy,
    Term,
    is_word,
)
from blixard.v1 import blixard_pb2 as pb
from blixard.wire.checks import bad
from blixard.wire.guest_check import REPORT, RESTART, check

MAX_RESTARTS: Final = 1_000
MAX_PRIORITY: Final = 1_000
MAX_TERMS: Final = 16

Choice = TypeVar("Choice", OnQuorumLoss, Failover, Strategy)
Item = TypeVar("Item", Term, Relation)


def policy(message: pb.Policy, present: Policy) -> Policy:
    """A VM's policy: what is absent stays as it is at present."""
    return Policy(
        on_quorum_loss=_choice("on_quorum_loss", message, OnQuorumLoss, present.on_quorum_loss),
        failover=_choice("failover", message, Failover, present.failover),
        restart_limit=_restart_limit(message, present.restart_limit),
        priority=_priority(message, present.priority),
        strategy=_choice("strategy", message, Strategy, present.strategy),
        group=_group(message, present.group),
        require=_terms("require", message, present.require),
        prefer=_terms("prefer", message, present.prefer),
        near=_relations("near", message, present.near),
        prefer_near=_relations("prefer_near", message, present.prefer_near),
        apart=_relations("apart", message, present.apart),
        prefer_apart=_relations("prefer_apart", message, present.prefer_apart),
        check=check(message.check) if message.HasField("check") else present.check,
    )


def shown(policy: Policy) -> pb.Policy:
    """A policy as clients see it: complete."""

    def terms(items: tuple[Term | Relation, ...]) -> pb.Terms:
        return pb.Terms(items=[str(item) for item in items])

    return pb.Policy(
        on_quorum_loss=policy.on_quorum_loss.value,
        failover=policy.failover.value,
        restart_limit=policy.restart_limit,
        priority=policy.priority,
        strategy=policy.strategy.value,
        group=policy.group,
        require=terms(policy.require),
        prefer=terms(policy.prefer),
        near=terms(policy.near),
        prefer_near=terms(policy.prefer_near),
        apart=terms(policy.apart),
        prefer_apart=terms(policy.prefer_apart),
        check=_shown_check(policy.check),
    )


def _shown_check(check: GuestCheck | None) -> pb.GuestCheck | None:
    if check is None:
        return None
    return pb.GuestCheck(
        kind=check.kind.value,
        target=check.target,
        interval_ms=check.interval_ms,
        timeout_ms=check.timeout_ms,
        failures=check.failures,
        start_period_ms=check.start_period_ms,
        on_failure=RESTART if check.restarts else REPORT,
    )


def _choice(
    field: Literal["on_quorum_loss", "failover", "strategy"],
    message: pb.Policy,
    kind: type[Choice],
    present: Choice,
) -> Choice:
    if not message.HasField(field):
        return present
    word = getattr(message, field)
    try:
        return kind(word)
    except ValueError as unknown:
        known = ", ".join(one.value for one in kind)
        raise bad(f'{field}: "{word[:80]}" is not known', f"write one of: {known}") from unknown


def _restart_limit(message: pb.Policy, present: int) -> int:
    if not message.HasField("restart_limit"):
        return present
    if message.restart_limit > MAX_RESTARTS:
        raise bad(
            f"restart_limit: {message.restart_limit} is out of range",
            f"choose 0 to {MAX_RESTARTS}; with 0 it is never restarted by itself",
        )
    return message.restart_limit


def _priority(message: pb.Policy, present: int) -> int:
    if not message.HasField("priority"):
        return present
    if abs(message.priority) > MAX_PRIORITY:
        raise bad(
            f"priority: {message.priority} is out of range",
            f"choose {-MAX_PRIORITY} to {MAX_PRIORITY}; the usual is 0",
        )
    return message.priority


def _group(message: pb.Policy, present: str) -> str:
    if not message.HasField("group"):
        return present
    if message.group and not is_word(message.group):
        raise bad(
            f'group: "{message.group[:80]}" is no valid name of a group',
            f"a name has 1 to {MAX_WORD} letters, digits, dots, _ and -",
        )
    return message.group


def _terms(
    field: Literal["require", "prefer"], message: pb.Policy, present: tuple[Term, ...]
) -> tuple[Term, ...]:
    remedy = "write LABEL=VALUE or LABEL!=VALUE, such as zone=a"
    return _items(field, message, Term.parse, present, remedy)


def _relations(
    field: Literal["near", "prefer_near", "apart", "prefer_apart"],
    message: pb.Policy,
    present: tuple[Relation, ...],
) -> tuple[Relation, ...]:
    remedy = "write GROUP or GROUP/LABEL, such as web or web/zone"
    return _items(field, message, Relation.parse, present, remedy)


def _items(
    field: Literal["require", "prefer", "near", "prefer_near", "apart", "prefer_apart"],
    message: pb.Policy,
    parse: Callable[[str], Item],
    present: tuple[Item, ...],
    remedy: str,
) -> tuple[Item, ...]:
    if not message.HasField(field):
        return present
    texts = getattr(message, field).items
    if len(texts) > MAX_TERMS:
        raise bad(f"{field}: {len(texts)} are given", f"give {MAX_TERMS} at most")
    items = []
    for text in texts:
        try:
            items.append(parse(text))
        except ValueError as wrong:
            raise bad(f'{field}: "{text[:80]}" cannot be read', remedy) from wrong
    return tuple(dict.fromkeys(items))
