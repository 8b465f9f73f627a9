"""`blixard sim`: what it prints, how it ends, and what it refuses."""

import json
import shlex

import pytest

from blixard.errors import Code
from blixard.sim import sabotage
from cli.conftest import Run

SHORT = ("sim", "--seed", "7", "--minutes", "0.2")
BROKEN = ("sim", "--seed", "3", "--minutes", "1", "--without", "tombstone")


def test_a_history_ends_with_its_hash(run: Run) -> None:
    ran = run(*SHORT, "--faults", "none", "--nodes", "3")
    assert ran.code == 0
    assert ran.err == "seed 7: 3 nodes, 0.2 minutes; faults: none\n"
    *_, held, last = ran.out.splitlines()
    assert held == "every invariant held"
    assert last.startswith("trace hash ")


def test_a_trace_has_a_line_for_each_event_and_changes_nothing(run: Run) -> None:
    quiet, told = run(*SHORT), run(*SHORT, "--trace")
    assert len(told.out.splitlines()) > 50
    assert told.out.splitlines()[-1] == quiet.out.splitlines()[-1]
    assert "client-1" in told.out


def test_for_programs(run: Run) -> None:
    result = json.loads(run(*SHORT, "-o", "json").out)
    assert result["schema"] == "blixard.v1/simulation"
    assert (result["seed"], result["violations"]) == (7, [])
    assert result["trace_hash"] == json.loads(run(*SHORT, "-o", "json").out)["trace_hash"]


def test_a_broken_invariant_is_told_with_what_led_to_it_and_how_to_see_it_again(run: Run) -> None:
    ran = run(*BROKEN)
    assert ran.code == 1
    assert ran.err.splitlines()[1].startswith("error[BLX-1040]: holder-last does not hold at ")
    assert "the last events:" in ran.err
    (fix,) = [line for line in ran.err.splitlines() if line.startswith("  fix: ")]
    command, _, _ = fix.removeprefix("  fix: ").partition("   ")
    again = run(*shlex.split(command)[1:])
    assert again.code == 1
    assert again.out.splitlines()[-1] == ran.out.splitlines()[-1], "the same history"


def test_the_seed_of_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIXARD_SIM_SEED", "7")
    assert run("sim", "--minutes", "0.2").out == run(*SHORT).out
    monkeypatch.setenv("BLIXARD_SIM_SEED", "seven")
    ran = run("sim")
    assert ran.code == 2
    assert ran.err.startswith('error[BLX-2001]: BLIXARD_SIM_SEED: "seven" is no seed')


def test_without_a_seed_one_is_drawn_and_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLIXARD_SIM_SEED", raising=False)
    told = [run("sim", "--minutes", "0.1", "--faults", "none").err for _ in range(2)]
    assert told[0] != told[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--faults crash,fire", 'no fault is named "fire"\n  fix: blixard sim --list'),
        ("--faults ,", "--faults is empty"),
        ("--without gravity", 'no rule is named "gravity"\n  fix: blixard sim --list'),
        ("--list --bench", "--bench and --list exclude each other"),
        ("--seeds 5 --trace", "--trace means nothing with --seeds"),
        ("--explore --seed 0", "--seed means nothing with --explore"),
        ("--seed -1", "-1 is not in the range x>=0"),
        ("--nodes 0", "0 is not in the range 1<=x<=9"),
        ("--minutes never", "'never' is not a valid float"),
    ],
)
def test_wrong_usage(run: Run, arguments: str, told: str) -> None:
    ran = run("sim", *arguments.split())
    assert ran.code == Code.USAGE.exit_status
    assert told in ran.err


def test_the_names_that_it_takes(run: Run) -> None:
    names = json.loads(run("sim", "--list", "-o", "json").out)
    assert "crash" in names["faults"]
    assert "at-most-one" in names["invariants"]
    assert names["rules"].keys() == sabotage.SABOTAGES.keys()
