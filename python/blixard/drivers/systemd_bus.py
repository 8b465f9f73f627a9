"""A connection to systemd over the system bus, on a thread of its own.

pydbus and GLib block, and the daemon's loop must not: the work is done on the thread, and what
comes of it is told on the loop. A connection that breaks, or a systemd that restarts or hangs, is
told as lost; the thread then tries again until it can list the units anew.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Protocol

import pydbus
from gi.repository import Gio, GLib

from blixard.drivers.systemd_facts import UnitFacts, object_path, unit_name, vm_name
from blixard.errors import BlixardError

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = "/org/freedesktop/systemd1"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_CALL_TIMEOUT_S = 10
_RETRY_S = 1
_LOOK_S = 5
_CLOSE_S = 1

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told, on the loop."""

    def connected(self, facts: Mapping[str, UnitFacts]) -> None:
        """Everything that is known, anew, of the VMs that are ours."""
        ...

    def lost(self) -> None:
        """Nothing is known until the next `connected`."""
        ...

    def changed(self, vm: str, facts: UnitFacts) -> None: ...


class SystemdBus:
    """Watches the units of VMs and gives orders to them."""

    def __init__(self, listener: Listener, ours: Callable[[set[str]], set[str]]) -> None:
        """`ours` is called on the thread with the VMs whose units are loaded, and returns which VMs
        to watch."""
        self._listener = listener
        self._ours = ours
        self._loop = asyncio.get_running_loop()
        self._context = GLib.MainContext.new()
        self._main = GLib.MainLoop.new(self._context, False)
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        self._bus: Any = None
        self._manager: Any = None
        self._jobs: dict[str, Future[str]] = {}
        self._watched: dict[str, dict[str, Any]] = {}
        """The properties of the units of VMs, by VM."""
        self._subscriptions: dict[str, Any] = {}

    # --- called on the loop ---------------------------------------------------------------------

    def open(self) -> None:
        self._thread.start()

    async def close(self) -> None:
        """Return when all is closed. A thread that waits for a bus that hangs is left behind: a
        daemon that does not end renews no lease, and no other takes its place."""
        self._post(self._main.quit)
        await asyncio.to_thread(self._thread.join, _CLOSE_S)

    async def call(self, method: str, *arguments: object) -> None:
        """Call a method of systemd's manager. Raises `BlixardError`."""
        await self._on_thread(lambda: self._call(method, *arguments))

    async def is_shutting_down(self) -> bool:
        """Whether the host is about to stop or to restart. Raises `BlixardError`."""
        found: list[str] = []
        await self._on_thread(lambda: found.append(self._manager.SystemState))
        return found == ["stopping"]

    async def run_job(self, method: str, vm: str) -> str:
        """Begin a job for the unit of a VM, wait for its end, and return its result."""
        future: Future[str] = Future()
        await self._on_thread(lambda: self._begin_job(method, vm, future))
        result = await asyncio.wrap_future(future)
        await self.watch(vm)
        return result

    async def watch(self, vm: str) -> None:
        """Tell of a VM from now on, and now in any case."""
        await self._on_thread(lambda: self._watch(vm))

    async def forget(self, vm: str) -> None:
        """Tell no more of a VM."""
        await self._on_thread(lambda: self._forget(vm))

    def _post(self, work: Callable[[], None]) -> None:
        source = GLib.idle_source_new()
        source.set_priority(GLib.PRIORITY_DEFAULT)
        source.set_callback(lambda *_: work())
        source.attach(self._context)

    async def _on_thread(self, work: Callable[[], None]) -> None:
        """Do something on the thread, while there is a connection. Raises `BlixardError`."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                self._require_connection()
                work()
            except GLib.Error as error:
                _settle(done, BlixardError(_words(error)))
            except Exception as error:  # noqa: BLE001 - raised again, on the loop
                _settle(done, error)
            else:
                _settle(done, None)

        self._post(run)
        await asyncio.wrap_future(done)

    def _require_connection(self) -> None:
        if self._manager is None:
            raise BlixardError("systemd cannot be reached")

    # --- on the thread: the connection ----------------------------------------------------------

    def _run(self) -> None:
        self._context.push_thread_default()
        self._reconnect()
        self._every(_LOOK_S, self._look)
        self._main.run()
        self._disconnect()
        self._context.pop_thread_default()

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop was closed before this thread
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _every(self, seconds: int, work: Callable[[], bool]) -> None:
        """Call `work` again and again while it returns true."""
        source = GLib.timeout_source_new_seconds(seconds)
        source.set_callback(lambda *_: self._safely(work))
        source.attach(self._context)

    def _safely(self, work: Callable[..., bool | None], *arguments: object) -> bool:
        """Call back; a defect of ours does not stay on this thread."""
        try:
            return bool(work(*arguments))
        except Exception as defect:  # noqa: BLE001 - told on the loop
            context = {"message": "defect in a driver", "exception": defect}
            self._tell(self._loop.call_exception_handler, context)
            return False

    def _subscribed(self, work: Callable[[Any], None], **where: str) -> Any:
        """Have `work` called with the parameters of each such signal of this connection."""
        bus = self._bus

        def fired(*signal: Any) -> None:
            if self._bus is bus:
                self._safely(work, signal[-1])

        return bus.subscribe(**where, signal_fired=fired)

    def _closed(self, connection: Any) -> None:
        if self._bus is not None and self._bus.con is connection:
            self._lost("the bus has closed")

    def _connect(self) -> bool:
        """Connect and list the units. Returns whether to try again."""
        try:
            address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
            # A connection of its own: GLib's shared one stays closed once it is.
            self._bus = pydbus.connect(address)
            self._bus.con.connect("closed", lambda con, *_: self._safely(self._closed, con))
            manager = self._bus.get(_SYSTEMD, _MANAGER, timeout=_CALL_TIMEOUT_S)
            self._manager = manager["org.freedesktop.systemd1.Manager"]
            self._subscribed(
                lambda _: self._lost("systemd has restarted"),
                sender="org.freedesktop.DBus",
                signal="NameOwnerChanged",
                arg0=_SYSTEMD,
            )
            self._subscribed(
                self._job_removed, sender=_SYSTEMD, signal="JobRemoved", object=_MANAGER
            )
            self._call("Subscribe")
            for vm in sorted(self._ours(self._loaded())):
                self._subscribe(vm)
            facts = {vm: self._facts(vm) for vm in sorted(self._watched)}
        except GLib.Error as error:
            self._disconnect()
            _log.warning("systemd cannot be reached: %s", _words(error))
            return True
        self._tell(self._listener.connected, facts)
        return False

    def _disconnect(self) -> None:
        bus, self._bus, self._manager = self._bus, None, None
        self._watched.clear()
        self._subscriptions.clear()
        for future in self._jobs.values():
            _settle(future, BlixardError("systemd cannot be reached any more"))
        self._jobs.clear()
        if bus is not None and not bus.con.is_closed():
            with suppress(GLib.Error):
                bus.con.close_sync(None)

    def _lost(self, why: str) -> None:
        if self._manager is None:
            return
        _log.warning("systemd is out of reach: %s", why)
        self._disconnect()
        self._tell(self._listener.lost)
        self._reconnect()

    def _reconnect(self) -> None:
        if self._safely(self._connect):
            self._every(_RETRY_S, self._connect)

    # --- on the thread: units -------------------------------------------------------------------

    def _call(self, method: str, *arguments: object) -> Any:
        return getattr(self._manager, method)(*arguments, timeout=_CALL_TIMEOUT_S)

    def _loaded(self) -> set[str]:
        units = self._call("ListUnitsByPatterns", [], [unit_name("*")])
        return {vm for unit in units if (vm := vm_name(unit[0])) is not None}

    def _begin_job(self, method: str, vm: str, future: Future[str]) -> None:
        # What the bus sends meanwhile waits until this thread is back in its main loop.
        self._jobs[self._call(method, unit_name(vm), "replace")] = future

    def _job_removed(self, parameters: tuple[int, str, str, str]) -> None:
        _, job, _, result = parameters
        if job in self._jobs:
            _settle(self._jobs.pop(job), result)

    def _watch(self, vm: str) -> None:
        self._subscribe(vm)
        self._tell(self._listener.changed, vm, self._facts(vm))

    def _subscribe(self, vm: str) -> None:
        """Watch the unit of a VM, and read its properties now."""
        path = object_path(unit_name(vm))
        if vm not in self._subscriptions:
            self._subscriptions[vm] = self._subscribed(
                lambda parameters: self._properties_changed(vm, parameters[1]),
                sender=_SYSTEMD,
                iface=_PROPERTIES,
                signal="PropertiesChanged",
                object=path,
            )
        properties: dict[str, Any] = {}
        for interface in ("Unit", "Service"):
            properties |= self._properties(path, f"{_SYSTEMD}.{interface}")
        self._watched[vm] = properties

    def _properties(self, path: str, interface: str) -> dict[str, Any]:
        # Not by way of pydbus, which would have each unit describe all its interfaces first.
        reply = self._bus.con.call_sync(
            *(_SYSTEMD, path, _PROPERTIES, "GetAll", GLib.Variant("(s)", (interface,))),
            *(GLib.VariantType.new("(a{sv})"), Gio.DBusCallFlags.NONE),
            *(_CALL_TIMEOUT_S * 1000, None),
        )
        properties: dict[str, Any] = reply.unpack()[0]
        return properties

    def _properties_changed(self, vm: str, changed: dict[str, Any]) -> None:
        """Take what changed from the signal itself: a unit that ended well is unloaded at once, and
        asked later it would know nothing of how it ended."""
        if vm not in self._watched:
            return
        self._watched[vm] |= changed
        try:
            self._tell(self._listener.changed, vm, self._facts(vm))
        except GLib.Error as error:
            self._lost(_words(error))

    def _facts(self, vm: str) -> UnitFacts:
        properties = self._watched[vm]
        is_down = properties["ActiveState"] in {"inactive", "failed"}
        return UnitFacts.of(properties, self._count_processes(vm) if is_down else 0)

    def _count_processes(self, vm: str) -> int:
        """How many processes are in the cgroup of a unit. One that is not loaded has none."""
        try:
            return len(self._call("GetUnitProcesses", unit_name(vm)))
        except GLib.Error as error:
            if Gio.dbus_error_get_remote_error(error) == f"{_SYSTEMD}.NoSuchUnit":
                return 0
            raise

    def _forget(self, vm: str) -> None:
        self._watched.pop(vm, None)
        subscription = self._subscriptions.pop(vm, None)
        if subscription is not None:
            subscription.unsubscribe()

    def _look(self) -> bool:
        """Now and then, compare what the signals told with what is: one may have been missed, and a
        systemd that hangs sends none."""
        if self._manager is None:
            return True
        try:
            units = self._call("ListUnitsByPatterns", [], [unit_name("*")])
            states = {vm_name(unit[0]): unit[3] for unit in units}
            for vm, properties in list(self._watched.items()):
                told = properties["ActiveState"]
                now = states.get(vm, told if told in {"inactive", "failed"} else "inactive")
                if now != told:
                    self._watch(vm)
                elif told in {"inactive", "failed"}:
                    self._tell(self._listener.changed, vm, self._facts(vm))
        except GLib.Error as error:
            self._lost(_words(error))
        return True


def _settle(future: Future[Any], outcome: object) -> None:
    """Give a future its outcome, if anybody still waits for it."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _words(error: Any) -> str:
    """What an error of the bus says, without the name of its kind."""
    Gio.dbus_error_strip_remote_error(error)
    return str(error.message)
