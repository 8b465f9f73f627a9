"""Each rule is switched off once, and what catches that must say which invariant it broke.

A rule is caught by histories of the simulator, by the explorer, or by a test that plays one exact
schedule and breaks the rule itself. A crash or a history that takes too long is no catch.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from blixard.sim import rules
from blixard.sim.checks import INVARIANTS
from blixard.sim.explorer import explore
from blixard.sim.explorer_actions import FINDS, Bounds
from blixard.sim.faults import KINDS
from blixard.sim.plan import draw
from blixard.sim.run import Simulation
from sim import scenarios
from sim import scenarios_fence as fence
from sim import scenarios_leases as leases

ROOT = Path(__file__).parents[2]

LOST = {
    "daemon-dead": 12.0,
    "partition": 12.0,
    "crash": 15.0,
    "keeper-stopped": 20.0,
    "late-start": 25.0,
    "self-restart": 30.0,
}
"""What ends leases."""


@dataclass(frozen=True)
class Seeds:
    """Histories from seed `first` on, at most `count`, of two minutes."""

    invariant: str
    first: int
    count: int = 1
    faults: dict[str, float] | None = None
    """What strikes instead of what the seed draws, and how many seconds apart."""
    options: dict[str, float] = field(default_factory=dict)
    """Options of the plan that are pinned as well."""


@dataclass(frozen=True)
class Explored:
    """A search through all orders of events."""

    invariant: str
    bounds: Bounds


@dataclass(frozen=True)
class Scenario:
    """A short story, whose complaint begins with the invariant."""

    play: Callable[[], None]
    invariant: str


@dataclass(frozen=True)
class Played:
    """A test that breaks the rule in a schedule of its own, as `path::function`."""

    test: str


def seeds(rule: str, catcher: Seeds) -> int | None:
    """After how many seeds the invariant is reported; None if it never is."""
    for number in range(catcher.count):
        plan = replace(draw(catcher.first + number, list(KINDS)), **catcher.options)  # type: ignore[arg-type]
        if catcher.faults is not None:
            plan = replace(plan, faults=catcher.faults)
        with rules.switched_off(rule):
            result = Simulation(plan, awaited=catcher.invariant).run()
        if any(violation.invariant == catcher.invariant for violation in result.violations):
            return number + 1
    return None


CATCHERS: dict[str, Seeds | Explored | Scenario | Played] = {
    **{rule: Explored(invariant, bounds) for rule, (bounds, invariant) in FINDS.items()},
    # The law and the agent.
    "canary": Seeds("linearizability", 1, 20),
    "forgotten-request-refused": Seeds(
        "exactly-once",
        0,
        40,
        {"reset": 20.0},
        {"late_calls": 0.3, "outcomes_kept": 20, "clients": 4},
    ),
    "founder-registers-first": Seeds("convergence", 0, 5),
    "level-raised-by-all": Seeds("state-machine-safety", 0, 20),
    "level-waits-for-all": Seeds("state-machine-safety", 0, 20),
    "retry-gets-first-outcome": Seeds("exactly-once", 0, 5),
    "room-checked-when-placed": Scenario(leases.a_placement_is_overtaken, "capacity"),
    "stop-before-report": Seeds("at-most-one", 0, 40),
    "tombstone": Seeds("holder-last", 0, 40),
    "report-of-the-holder-only": Seeds(
        "holder-last", 0, 40, {"reset": 20.0}, {"late_calls": 0.4, "lost_answers": 0.3, "vcpus": 2}
    ),
    "sign-in-again": Seeds(
        "convergence", 0, 40, {"crash": 4.0}, {"late_calls": 0.4, "lost_answers": 0.3}
    ),
    "log-caught-up-before-acting": Played(
        "tests/core/test_faults.py::test_a_daemon_that_trusted_its_old_log_would_be_noticed"
    ),
    "one-holder": Played("tests/core/test_machine.py::test_the_law_notices"),
    "registration-compares": Scenario(scenarios.a_registration_that_lands_late, "holder-last"),
    "report-of-the-present-daemon-only": Played(
        "tests/core/test_faults.py::test_a_report_of_an_earlier_daemon_that_lands_late_releases_nothing"
    ),
    # Leases, and what ends them.
    "counted-from-sending": Scenario(leases.answers_are_slow, "fence-in-time"),
    "counted-by-own-clock": Scenario(
        leases.hosts_were_switched_on_at_different_times, "holder-last"
    ),
    "renewal-counts-once-applied": Scenario(leases.a_leader_is_cut_off, "fence-in-time"),
    "renewal-of-this-life": Scenario(leases.a_renewal_of_an_earlier_boot_lands_late, "holder-last"),
    "new-leader-waits": Seeds("holder-last", 0, 20, LOST),
    "kill-budget": Seeds("fence-in-time", 0, 20, LOST),
    "drift-allowed-for": Scenario(leases.clocks_are_as_wrong_as_they_may_be, "holder-last"),
    "down-compares-renewal": Scenario(leases.a_word_that_a_host_is_down_lands_late, "holder-last"),
    "down-compares-life": Scenario(
        leases.a_word_that_an_earlier_life_is_over_lands_late, "holder-last"
    ),
    "placed-with-the-living": Scenario(leases.a_placement_lands_late, "convergence"),
    "registration-compares-machine": Scenario(
        leases.a_disk_is_put_into_another_machine, "holder-last"
    ),
    "registration-compares-data": Scenario(
        leases.an_emptied_data_directory_registers, "holder-last"
    ),
    "emptied-before-registration": Scenario(
        leases.a_daemon_has_lost_the_note_of_its_life, "holder-last"
    ),
    "stop-releases-nothing": Scenario(leases.a_daemon_is_stopped_and_started, "holder-last"),
    "confirmed-after-the-lease": Scenario(leases.an_operator_takes_a_host_for_dead, "holder-last"),
    "confirmed-of-this-life": Scenario(leases.an_operators_word_lands_late, "holder-last"),
    "kept-not-failed-over": Scenario(leases.a_host_is_lost_with_what_it_keeps, "holder-last"),
    "kept-as-placed": Scenario(leases.a_policy_is_changed_while_a_host_is_cut_off, "holder-last"),
    "kept-taken-over": Scenario(leases.a_host_comes_back_with_what_it_kept, "holder-last"),
    # The fence and the gate.
    "fence-again": Scenario(fence.guests_come_back_as_the_fence_begins, "fence-in-time"),
    "dead-keeper-replaced": Scenario(fence.a_keeper_is_killed, "fence-in-time"),
    "stopped-keeper-replaced": Scenario(fence.a_keeper_stands_still, "fence-in-time"),
    "petted-within-the-lease": Scenario(fence.a_host_with_a_watchdog_freezes, "fence-in-time"),
    "watched-before-started": Scenario(fence.a_vm_starts_as_a_lease_ends, "fence-in-time"),
    "kept-spared": Scenario(leases.a_host_is_lost_with_what_it_keeps, "kept"),
    "gate": Seeds("gate", 0, 20, LOST),
    "gate-compares-deadline": Scenario(fence.guests_come_back_when_nobody_fences, "gate"),
    "fence-shuts-gates": Scenario(fence.guests_come_back_after_the_fence, "gate"),
    "gone-when-its-gate-is": Scenario(fence.a_guest_dies_and_comes_back_by_itself, "holder-last"),
    "caught-up-before-starting": Scenario(
        fence.a_host_that_was_declared_down_hears_no_log, "monotone-epochs"
    ),
    # Consensus, where it takes damage, changes of members, or an exact order of more events.
    "mark-not-checked": Seeds("corruption", 0, 40, {"lost-tail": 15.0}),
    "barrier-shared-late": Scenario(scenarios.a_reader_comes_after_the_barrier, "linearizability"),
    "barrier-skipped": Scenario(scenarios.a_deposed_leader_is_asked, "linearizability"),
    "learner-skipped": Scenario(scenarios.a_newcomer_gets_no_entries, "convergence"),
    "wiped-node-votes": Scenario(scenarios.a_wiped_node_comes_back, "quorum-durability"),
    "members-from-snapshot-only": Played(
        "tests/schedules/test_membership.py::test_defect_i_is_seen_if_the_log_is_not_asked"
    ),
    "members-of-snapshot-uncommitted": Played(
        "tests/schedules/test_membership.py"
        "::test_defect_k_is_seen_if_a_snapshot_has_the_configuration_of_now"
    ),
    "pre-vote": Played(
        "tests/schedules/test_elections.py::test_the_terms_grow_alone_if_the_pre_vote_is_not_asked"
    ),
    "snapshot-checksum": Played(
        "tests/schedules/test_snapshots.py::test_defect_e_is_seen_if_nothing_is_compared"
    ),
    "snapshot-transfers-mixed": Played(
        "tests/schedules/test_snapshots.py::test_defect_f_is_seen_if_chunks_are_joined_as_they_come"
    ),
    "two-changes-at-once": Played(
        "tests/schedules/test_membership.py::test_defect_h_is_seen_if_changes_are_made_at_any_time"
    ),
    "vote-counted-twice": Played(
        "tests/schedules/test_elections.py::test_defect_l_is_seen_if_votes_are_not_remembered"
    ),
}


@pytest.mark.parametrize("rule", CATCHERS)
def test_a_rule_that_is_switched_off_is_missed(rule: str) -> None:
    match CATCHERS[rule]:
        case Seeds() as catcher:
            assert catcher.invariant in INVARIANTS
            assert seeds(rule, catcher) is not None, f"no seed reports {catcher.invariant}"
        case Explored(invariant, bounds):
            found = explore(bounds, rule).violation
            assert found is not None
            assert found.invariant == invariant
        case Scenario(play, invariant):
            play()
            with rules.switched_off(rule), pytest.raises(AssertionError, match=f"^{invariant}: "):
                play()
        case Played(test):
            path, _, function = test.partition("::")
            tree = ast.parse((ROOT / path).read_text())
            names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            assert function in names, "it runs with the others, if it is there"


def test_every_rule_has_a_catcher() -> None:
    assert CATCHERS.keys() == rules.SABOTAGES.keys()
    assert len(CATCHERS) >= 15


@pytest.mark.parametrize("rule", CATCHERS)
def test_every_rule_can_be_switched_off(rule: str) -> None:
    """Also one that is caught by a test of its own, where `sim --without` alone does so."""
    with rules.switched_off(rule):
        pass
