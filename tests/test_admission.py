"""How a node without data finds its way into a cluster."""

import pytest

from blixard.admission import Found, Join, Wait, choose
from blixard.errors import BlixardError, Code
from blixard.v1 import blixard_pb2 as pb

PEERS = ["127.0.0.1:1", "127.0.0.1:2"]


def _answer(
    node_id: int = 2, cluster_id: str = "", *, knows_you: bool = False, founding: bool = False
) -> pb.GreetResponse:
    return pb.GreetResponse(
        node_id=node_id, cluster_id=cluster_id, knows_you=knows_you, founding=founding
    )


def test_a_founder_without_peers_founds() -> None:
    assert choose(1, True, [], []) == Found()


def test_a_founder_with_peers_waits_until_one_answers() -> None:
    assert isinstance(choose(1, True, PEERS, []), Wait)
    assert choose(1, True, PEERS, [_answer()]) == Found()


def test_a_founder_joins_a_cluster_that_exists() -> None:
    assert choose(1, True, PEERS, [_answer(2), _answer(3, "c1")]) == Join("c1")


def test_a_joiner_never_founds() -> None:
    assert isinstance(choose(1, False, PEERS, []), Wait)
    assert isinstance(choose(1, False, PEERS, [_answer()]), Wait)
    assert isinstance(choose(1, False, [], []), Wait)
    assert choose(1, False, PEERS, [_answer(2, "c1")]) == Join("c1")


@pytest.mark.parametrize("founding", [True, False])
def test_a_wiped_node_is_not_let_in_again(founding: bool) -> None:
    with pytest.raises(
        BlixardError, match="has a node-1, but this data directory is empty"
    ) as told:
        choose(1, founding, PEERS, [_answer(2, "c1", knows_you=True)])
    assert told.value.code is Code.NODE_TAKEN
    assert "cluster leave --node 1" in told.value.remedy


def test_two_founders_are_told_apart_by_a_person() -> None:
    with pytest.raises(BlixardError, match="node-2 was told to found a cluster too"):
        choose(1, True, PEERS, [_answer(2, founding=True)])


def test_peers_of_different_clusters_are_refused() -> None:
    with pytest.raises(BlixardError, match="different clusters: c1, c2"):
        choose(1, False, PEERS, [_answer(2, "c1"), _answer(3, "c2")])
