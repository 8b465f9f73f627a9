"""Watching: what happens, and how VMs and nodes are, told as it comes.

A watcher has no queue that could grow. It keeps its place in what this node remembers, and the
names of what is other than it was told: whoever reads slowly hears of several changes of an object
as one, and whoever falls behind all that is remembered is told so.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final

import grpc

from blixard.errors import Code
from blixard.machine.changes import Batch, Event
from blixard.model import Cluster, Fix, Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import view
from blixard.wire.node_log import NodeLog
from blixard.wire.status import Refused, streams

Context = grpc.aio.ServicerContext[Any, Any]

HEARTBEAT_S: Final = 15.0
"""A watcher hears something this often, if nothing happens either."""
CATCH_UP_S: Final = 5.0
"""How long a node may take to come to an index that a watcher has seen elsewhere."""


class WatchCalls:
    """`ClusterService`, the part that tells what happens."""

    def __init__(self, node: NodeLog) -> None:
        self._node = node

    @streams
    async def Watch(
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        """Tell of everything after an index, or from now on, in the order of the log."""
        node, log, loop = self._node, self._node.log, asyncio.get_running_loop()
        if request.HasField("since_index") and request.last:
            raise _contradiction()
        if not await node.until(
            lambda: log.status().applied_index >= request.since_index, CATCH_UP_S
        ):
            raise _ahead(request.since_index, node)
        watcher = _Watcher(node, request)
        with node.listening(watcher.note):
            for response in watcher.begin():
                yield response
            due_s = loop.time() + HEARTBEAT_S
            while not request.finite:
                if node.closed:
                    raise _stops(node)
                if watcher.has_news:
                    for response in watcher.news():
                        yield response
                        due_s = loop.time() + HEARTBEAT_S
                elif loop.time() < due_s:
                    await node.changed(due_s - loop.time())
                else:
                    yield watcher.heartbeat()
                    due_s = loop.time() + HEARTBEAT_S


class _Watcher:
    """One watcher's place in the log, and what it wants to hear of."""

    def __init__(self, node: NodeLog, request: pb.WatchRequest) -> None:
        self._node = node
        self._request = request
        self._wants_all = not request.vms and not request.nodes
        self._wanted_vms = frozenset(request.vms)
        self._wanted_nodes = frozenset(request.nodes)
        self._index = 0
        """All that was told up to here, or is about to be."""
        self._vms: set[str] = set()
        self._nodes: set[int] = set()
        """Those that are other than was told."""
        self.has_news = False

    def note(self, batch: Batch) -> None:
        """Something has changed."""
        self.has_news = True
        if self._request.objects:
            self._vms.update(batch.vms)
            self._nodes.update(batch.nodes)

    def begin(self) -> Iterator[pb.WatchResponse]:
        """The events that were asked for, and how things are."""
        cluster, recent = self._look(), self._node.recent
        if self._request.HasField("since_index"):
            events = recent.after(self._request.since_index)
        else:
            events = recent.last(self._request.last, self._wants)
        index = self._index
        yield from self._told(events)
        if self._request.objects:
            names = sorted(cluster.vms)
            ids = sorted(cluster.nodes)
            yield from self._objects(cluster, index, names, ids, initial=True)
        yield pb.WatchResponse(type="synced", index=index)

    def news(self) -> Iterator[pb.WatchResponse]:
        """What has come about since the last time. Raises `Refused` if some of it is forgotten."""
        since = self._index
        cluster = self._look()
        events, index = self._node.recent.after(since), self._index
        vms, self._vms = sorted(self._vms), set()
        nodes, self._nodes = sorted(self._nodes), set()
        yield from self._told(events)
        yield from self._objects(cluster, index, vms, nodes, initial=False)

    def heartbeat(self) -> pb.WatchResponse:
        """That the stream lives, and how far it is."""
        self._look()
        return pb.WatchResponse(type="heartbeat", index=self._index)

    def _look(self) -> Cluster:
        """The state as it is now. Whatever comes later is news."""
        self.has_news = False
        self._index = self._node.log.status().applied_index
        return self._node.log.cluster()

    def _wants(self, event: Event) -> bool:
        subjects = self._wanted_vms if event.kind == "vm" else self._wanted_nodes
        return self._wants_all or event.subject in subjects or event.node in self._wanted_nodes

    def _told(self, events: Iterable[Event]) -> Iterator[pb.WatchResponse]:
        for event in filter(self._wants, events):
            yield pb.WatchResponse(type="event", index=event.index, event=_as_message(event))

    def _objects(
        self,
        cluster: Cluster,
        index: int,
        vms: Iterable[str],
        nodes: Iterable[int],
        *,
        initial: bool,
    ) -> Iterator[pb.WatchResponse]:
        """How these are, or that they are gone."""
        status = self._node.log.status()
        renewed_ms_ago = self._node.leases.renewed_ms_ago(cluster)
        wanted = [i for i in nodes if self._wants_all or f"node-{i}" in self._wanted_nodes]
        for node_id in wanted:
            if node_id not in cluster.nodes:
                name = f"node-{node_id}"
                yield pb.WatchResponse(type="delete", index=index, kind="node", name=name)
        here = [node_id for node_id in wanted if node_id in cluster.nodes]
        for shown in view.nodes(cluster, status, here, renewed_ms_ago) if here else ():
            yield pb.WatchResponse(type="put", index=index, initial=initial, node=shown)
        for name in vms:
            if not (self._wants_all or name in self._wanted_vms):
                continue
            vm = cluster.vms.get(name)
            if vm is None:
                yield pb.WatchResponse(type="delete", index=index, kind="vm", name=name)
            else:
                seen = view.vm(cluster, status, vm)
                yield pb.WatchResponse(type="put", index=index, initial=initial, vm=seen)


def _as_message(event: Event) -> pb.Event:
    return pb.Event(
        index=event.index,
        at_ms=event.at_ms,
        kind=event.kind,
        subject=event.subject,
        code=event.code,
        text=event.text,
        actor=event.actor,
        cause=event.cause,
        grave=event.grave,
        node=event.node,
    )


def _contradiction() -> Refused:
    return Refused(
        Rejected(
            Code.BAD_ARGUMENT,
            "since_index and last were both given",
            why="both say where to begin",
            fixes=(Fix("leave one of the two out"),),
        )
    )


def _ahead(index: int, node: NodeLog) -> Refused:
    return Refused(
        Rejected(
            Code.BAD_ARGUMENT,
            f"since_index: {index} is ahead of node-{node.node_id}, "
            f"which is at {node.log.status().applied_index}",
            why="the cluster has not come so far, or this node lags behind",
            fixes=(Fix("name an index that was seen, or none"),),
        )
    )


def _stops(node: NodeLog) -> Refused:
    rejected = Rejected(
        Code.NO_ROUTE,
        f"node-{node.node_id} stops",
        fixes=(Fix("go on at another node"),),
    )
    return Refused(rejected)
