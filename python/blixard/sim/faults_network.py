"""What goes wrong between hosts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixard.sim.faults import Faults


def reset(faults: "Faults") -> None:
    some = faults.random.sample(faults.pairs(), faults.random.randint(1, len(faults.pairs())))
    if faults.network.reset(*some):
        faults.world.bit("reset")


def delay(faults: "Faults") -> None:
    network, pair = faults.network, faults.random.choice(faults.pairs())
    extra_us = faults.random.choice((20_000, 150_000, 700_000))
    network.slowed[pair] = extra_us
    before = network.delayed

    def ending() -> None:
        network.slowed.pop(pair, None)
        if network.delayed > before:
            faults.world.bit("delay")

    faults.lasting((0.5, 8), ending)


def clog(faults: "Faults") -> None:
    network, pair = faults.network, faults.random.choice(faults.pairs())
    before = network.stalled
    network.clog(pair)

    def ending() -> None:
        if network.stalled > before:
            faults.world.bit("clog")
        network.unclog(pair)

    faults.lasting((0.2, 8), ending)


def one_way(faults: "Faults") -> None:
    node = faults.host().node_id
    out = faults.random.random() < 0.5
    pairs = [pair for pair in faults.pairs() if pair[0 if out else 1] == node]
    faults.hold("one-way", pairs, (1, 15))


def partition(faults: "Faults") -> None:
    ids = list(faults.world.hosts)
    side = set(faults.random.sample(ids, faults.random.randint(1, len(ids) - 1)))
    pairs = [(a, b) for a, b in faults.pairs() if (a in side) != (b in side)]
    faults.hold("partition", pairs, (1, 20))


def partial_partition(faults: "Faults") -> None:
    a, b = faults.random.sample(list(faults.world.hosts), 2)
    faults.hold("partial-partition", [(a, b), (b, a)], (1, 20))


def swizzle(faults: "Faults") -> None:
    """Clog some hosts one after another, and let go of them in another order."""
    ids = list(faults.world.hosts)
    for node in faults.random.sample(ids, faults.random.randint(2, len(ids))):
        pairs = [pair for pair in faults.pairs() if node in pair]
        start_s = faults.random.uniform(0, 2)

        def begin(pairs: list[tuple[int, int]] = pairs) -> None:
            faults.hold("swizzle", pairs, (0.5, 5))

        faults.world.later(start_s * 1e6, begin)


def client_cut(faults: "Faults") -> None:
    """A node's answers to clients get lost."""
    node = faults.host().node_id
    faults.network.block((node, 0))
    faults.lasting((0.5, 6), lambda: faults.network.release((node, 0)))
