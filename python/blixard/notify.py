"""Talking to systemd and to the log reader: readiness, status, watchdog, structured messages."""

import logging
import os
import sys
import time
from typing import Final

from blixard.machine.changes import Event

IDENTIFIER: Final = "blixard"


class ServiceNotifier:
    """sd_notify(3), if a service manager listens; otherwise silence."""

    def __init__(self) -> None:
        self.enabled = "NOTIFY_SOCKET" in os.environ
        """Whether a service manager started this process."""
        self.watchdog_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        """The service manager's patience in seconds; 0 if it does not watch."""

    def ready(self) -> None:
        self._notify("READY=1")

    def reloading(self) -> None:
        """Say that the configuration is read anew; `ready` says that it has been."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def extend(self, seconds: float) -> None:
        """Ask for more time to stop, beyond what is left of it."""
        self._notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def stopping(self) -> None:
        self._notify("STOPPING=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows."""
        self._notify(f"STATUS={text}")

    def alive(self) -> None:
        """Pet the service manager's watchdog. Call it only when the loop has made progress."""
        if self.watchdog_s:
            self._notify("WATCHDOG=1")

    def _notify(self, message: str) -> None:
        if self.enabled:
            from systemd import daemon

            daemon.notify(message)


def set_up_logging(level: str) -> None:
    """Log to the journal, structured, if it is where stderr goes; readable text otherwise."""
    handler: logging.Handler
    if "JOURNAL_STREAM" in os.environ:
        from systemd import journal

        handler = journal.JournalHandler(SYSLOG_IDENTIFIER=IDENTIFIER)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def log_event(logger: logging.Logger, event: Event) -> None:
    """One line an event; `journalctl BLIXARD_VM=web` then tells the story of a VM."""
    fields = {
        "BLIXARD_VM": event.subject if event.kind == "vm" else "",
        "BLIXARD_NODE": event.node,
        "BLIXARD_EVENT": event.code,
        "BLIXARD_ACTOR": event.actor,
        "BLIXARD_INDEX": str(event.index),
    }
    logger.log(
        logging.WARNING if event.grave else logging.INFO,
        "%s",
        event.text,
        extra={key: value for key, value in fields.items() if value},
    )
