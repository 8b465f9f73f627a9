"""`blixard sim`: the cluster simulated, and what must hold of it checked."""

import os
import secrets
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from blixard.cli.failure import Failure, failure
from blixard.cli.output import emit, emit_json
from blixard.cli.terminal import Options
from blixard.errors import Code
from blixard.model import Fix, Rejected

if TYPE_CHECKING:
    from blixard.sim.run import Result

SEED_VARIABLE: Final = "BLIXARD_SIM_SEED"


@click.command()
@click.option("--seed", type=click.IntRange(0), help=f"Which history (${SEED_VARIABLE}, or any).")
@click.option("--nodes", type=click.IntRange(1, 9), help="How many nodes (drawn from the seed).")
@click.option(
    "--minutes", type=click.FloatRange(0.1, 600), help="Simulated minutes of faults (10)."
)
@click.option("--faults", metavar="all|none|LIST", help="What goes wrong (drawn from the seed).")
@click.option("--without", metavar="RULE", help="Switch a rule off, to see that it is missed.")
@click.option("--trace", is_flag=True, help="Print a line for each event.")
@click.option(
    "--seeds", type=click.IntRange(1), help="Run so many seeds of two minutes, from --seed."
)
@click.option("--jobs", type=click.IntRange(1, 256), help="With --seeds: processes (the cores).")
@click.option(
    "--record", type=click.Path(path_type=Path), help="With --seeds: go on from this file."
)
@click.option("--explore", is_flag=True, help="Every order of events in a small cluster instead.")
@click.option("--states", type=click.IntRange(1), help="With --explore: how many (200000).")
@click.option("--bench", is_flag=True, help="Measure simulated seconds per second instead.")
@click.option("--list", "listing", is_flag=True, help="Name faults, invariants and rules.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), help="table or json.")
@click.pass_obj
def sim(options: Options, /, output: str | None, **chosen: Any) -> None:
    """Simulate a whole cluster from a seed: time, network, disks and hypervisors are simulated,
    everything else is what ships. The same seed gives the same history.

    \b
    blixard sim --seed 7 --nodes 5 --minutes 10 --faults all
    blixard sim --seeds 1000 --record soak.json
    blixard sim --list
    """
    options.output = output or options.output
    _check_together(chosen)
    _known_rule(chosen["without"])
    if chosen["listing"]:
        _list(options)
    elif chosen["bench"]:
        _bench(options)
    elif chosen["explore"]:
        _explore(options, chosen["without"], chosen["states"] or 200_000)
    elif chosen["seeds"]:
        _soak(options, chosen)
    else:
        _one(options, chosen)


def _check_together(chosen: dict[str, Any]) -> None:
    modes = [name for name in ("seeds", "explore", "bench", "listing") if chosen[name]]
    flags = {"listing": "--list"}
    if len(modes) > 1:
        names = " and ".join(flags.get(name, f"--{name}") for name in modes)
        raise failure(Code.USAGE, f"{names} exclude each other", fix="choose one of them")
    allowed = (
        {
            "seeds": {"seed", "jobs", "record", "without"},
            "explore": {"without", "states"},
            "bench": set[str](),
            "listing": set[str](),
        }.get(modes[0], set())
        if modes
        else {"seed", "nodes", "minutes", "faults", "without", "trace"}
    )
    given = {name for name, value in chosen.items() if value and name not in modes}
    given |= {"seed"} if chosen["seed"] == 0 else set()
    for name in sorted(given - allowed):
        mode = flags.get(modes[0], f"--{modes[0]}") if modes else "one seed"
        raise failure(Code.USAGE, f"--{name} means nothing with {mode}", fix="leave it out")


def _seed(given: int | None) -> int:
    if given is not None:
        return given
    text = os.environ.get(SEED_VARIABLE, "")
    if not text:
        return secrets.randbelow(2**32)
    if not text.isdecimal():
        raise failure(Code.USAGE, f'{SEED_VARIABLE}: "{text}" is no seed', fix="set it to a number")
    return int(text)


def _kinds(text: str | None) -> list[str] | None:
    """The kinds of faults that were asked for; None lets the seed choose."""
    from blixard.sim.faults import KINDS

    if text is None:
        return None
    if text in ("all", "none"):
        return list(KINDS) if text == "all" else []
    named = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in named if name not in KINDS]
    if unknown or not named:
        what = f'no fault is named "{unknown[0]}"' if unknown else "--faults is empty"
        raise failure(Code.USAGE, what, fix="all names:", command="blixard sim --list")
    return named


def _known_rule(rule: str | None) -> None:
    from blixard.sim.rules import SABOTAGES

    if rule is not None and rule not in SABOTAGES:
        raise failure(
            Code.USAGE, f'no rule is named "{rule}"', fix="all rules:", command="blixard sim --list"
        )


def _one(options: Options, chosen: dict[str, Any]) -> None:
    from blixard.sim.faults import KINDS
    from blixard.sim.plan import draw
    from blixard.sim.rules import switched_off
    from blixard.sim.run import Simulation

    seed, kinds, without = _seed(chosen["seed"]), _kinds(chosen["faults"]), chosen["without"]
    minutes = chosen["minutes"] or 10.0
    plan = draw(seed, list(KINDS), nodes=chosen["nodes"], minutes=minutes, chosen=kinds)
    tell = emit if chosen["trace"] and options.output != "json" else None
    options.talk(
        f"seed {seed}: {plan.nodes} nodes, {minutes:g} minutes; "
        f"faults: {', '.join(plan.faults) or 'none'}"
    )
    with switched_off(without) if without else nullcontext():
        result = Simulation(plan, tell).run()
    _report(options, result)
    if result.violations:
        raise _broken(result, _replay(seed, chosen))


def _replay(seed: int, chosen: dict[str, Any]) -> str:
    words = [f"blixard sim --seed {seed}"]
    for name in ("nodes", "minutes", "faults", "without"):
        if chosen[name] is not None:
            value = chosen[name]
            words.append(f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}")
    return " ".join([*words, "--trace"])


def _report(options: Options, result: "Result") -> None:
    if options.output == "json":
        emit_json(
            "simulation",
            {
                "seed": result.plan.seed,
                "nodes": result.plan.nodes,
                "faults": sorted(result.plan.faults),
                "simulated_s": round(result.simulated_s, 6),
                "events": result.events,
                "acknowledged": result.acknowledged,
                "committed": result.committed,
                "struck": result.struck,
                "violations": [
                    {"invariant": v.invariant, "what": v.what, "at_s": v.at_s}
                    for v in result.violations
                ],
                "trace_hash": result.trace_hash,
            },
        )
        return
    struck = ", ".join(f"{kind} {count}" for kind, count in result.struck.items())
    emit(f"struck: {struck or 'nothing'}")
    emit(
        f"{result.simulated_s:.1f} s simulated, {result.acknowledged} requests acknowledged, "
        f"{result.committed} entries committed"
    )
    if not result.violations:
        emit("every invariant held")
    emit(f"trace hash {result.trace_hash}")


def _broken(result: "Result", replay: str) -> Failure:
    from blixard.sim.checks import INVARIANTS

    first = result.violations[0]
    return Failure(
        Rejected(
            Code.INVARIANT_BROKEN,
            f"{first.invariant} does not hold at {first.at_s:.6f} s: {first.what}",
            why=f"it says: {INVARIANTS[first.invariant]}",
            fixes=(Fix("the same history again:", replay),),
        ),
        facts=["the last events:", *result.tail],
    )


def _soak(options: Options, chosen: dict[str, Any]) -> None:
    from blixard.sim import soak

    first = _seed(chosen["seed"]) if chosen["seed"] is not None else 0
    jobs = chosen["jobs"] or os.cpu_count() or 1

    def tell(record: soak.Record) -> None:
        failed = len({failure[0] for failure in record.failures})
        options.talk(f"{record.done} of {chosen['seeds']} seeds, {failed} failed")

    record = soak.soak(first, chosen["seeds"], jobs, chosen["record"], tell, chosen["without"])
    failed = sorted({failure[0] for failure in record.failures}, key=int)
    if options.output == "json":
        emit_json("campaign", soak.as_dict(record))
    else:
        hours = record.simulated_s / 3600
        emit(
            f"{record.done} seeds, {hours:.1f} h simulated, {record.acknowledged} requests "
            f"acknowledged, {len(failed)} seeds failed"
        )
    if failed:
        seed, invariant, what = record.failures[0]
        rule = f" --without {chosen['without']}" if chosen["without"] else ""
        raise Failure(
            Rejected(
                Code.INVARIANT_BROKEN,
                f"{len(failed)} of {record.done} seeds broke an invariant",
                why=f"seed {seed}: {invariant}: {what}",
                fixes=(
                    Fix("look at one:", f"blixard sim --seed {seed} --minutes 2{rule} --trace"),
                ),
            )
        )


def _explore(options: Options, without: str | None, states: int) -> None:
    from blixard.sim.explorer import explore
    from blixard.sim.explorer_actions import FINDS, Bounds

    def progress(states: int, depth: int, seconds: float) -> None:
        options.talk(f"{states} states, {depth} actions deep, {seconds:.0f} s")

    bounds, _ = FINDS.get(without or "", (Bounds(), ""))
    report = explore(replace(bounds, states=states), without, progress)
    found = report.violation
    if options.output == "json":
        emit_json(
            "exploration",
            {
                "states": report.states,
                "steps": report.steps,
                "depth": report.depth,
                "exhausted": report.exhausted,
                "bounds": str(report.bounds),
                "violation": found and {"invariant": found.invariant, "what": found.what},
            },
        )
    else:
        emit(f"bounds: {report.bounds}")
        more = "nothing more lies within the bounds" if report.exhausted else "there is more"
        emit(
            f"{report.states} distinct states by {report.steps} steps, all within {report.depth} "
            f"actions; {more}"
        )
    if found is not None:
        raise Failure(
            Rejected(Code.INVARIANT_BROKEN, f"{found.invariant} does not hold: {found.what}"),
            facts=[f"from: {found.seed}", *found.trace],
        )
    if options.output != "json":
        emit("every invariant held")


def _bench(options: Options) -> None:
    from blixard.sim.bench import measure

    figure = measure()
    if options.output == "json":
        emit_json("bench", {"simulated_s_per_s": round(figure, 1)})
    else:
        emit(f"5 nodes, 50 VMs, one core: {figure:.0f} simulated seconds per second")


def _list(options: Options) -> None:
    from blixard.sim.checks import INVARIANTS
    from blixard.sim.faults import KINDS
    from blixard.sim.rules import SABOTAGES

    rules = {name: sabotage.rule for name, sabotage in sorted(SABOTAGES.items())}
    if options.output == "json":
        emit_json("sim-names", {"faults": [*KINDS], "invariants": INVARIANTS, "rules": rules})
        return
    emit("faults:\n  " + "\n  ".join(KINDS))
    for title, table in (("invariants", INVARIANTS), ("rules", rules)):
        emit(f"{title}:")
        width = max(map(len, table))
        for name, text in table.items():
            emit(f"  {name:<{width}}  {text}")
