"""Pins flake references, so that every host builds the same thing."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from blixard.drivers.console import plain
from blixard.drivers.nix_command import NixCommand
from blixard.errors import BlixardError, Code
from blixard.source import FlakeSource

# Of RFC 3986 all but `#`, which separates the attribute; none of it means anything to a shell that
# a reference could be pasted into, except what a query needs.
_REFERENCE = re.compile(r"[A-Za-z0-9/][A-Za-z0-9._~:/?@!+,=&%-]*")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.'-]*")


class NixLocker:
    """Implements `ports.Locker` with `nix flake metadata`."""

    def __init__(self, nix: NixCommand, *, timeout_ms: int = 60_000) -> None:
        self._nix = nix
        self._timeout_ms = timeout_ms

    async def lock(self, url: str, attribute: str) -> FlakeSource:
        """Resolve `url` to a reference with revision and content hash.

        Raises `BlixardError`: BAD_ARGUMENT for what cannot be a reference or an attribute,
        SOURCE_UNREADABLE, Nix's own words first, for what cannot be fetched or pinned.
        """
        if not _REFERENCE.fullmatch(url):
            raise BlixardError(
                f"'{url}' is no flake reference",
                remedy="give one like github:owner/repo, git+https://host/repo or path:/dir",
                code=Code.BAD_ARGUMENT,
            )
        if not _ATTRIBUTE.fullmatch(attribute):
            raise BlixardError(
                f"'{attribute}' is no name under nixosConfigurations",
                remedy="use letters, digits, '_', '-' and '.'",
                code=Code.BAD_ARGUMENT,
            )
        metadata = await self._metadata(url)
        locked = metadata["locked"]
        if locked["type"] == "git" and "rev" not in locked:
            raise BlixardError(
                f"{url} has changes that are not committed",
                remedy="commit them, or pass the folder itself",
                code=Code.SOURCE_UNREADABLE,
            )
        return FlakeSource(pinned(metadata["url"], locked), attribute, locked["narHash"])

    async def _metadata(self, url: str) -> Mapping[str, Any]:
        arguments = ["flake", "metadata", "--json", "--no-write-lock-file", url]
        try:
            finished = await self._nix.run(arguments, timeout_ms=self._timeout_ms)
        except TimeoutError as late:
            raise BlixardError(
                f"{url} did not answer within {self._timeout_ms // 1000} s",
                remedy="try again, or check that this host reaches it",
                code=Code.SOURCE_UNREADABLE,
            ) from late
        if finished.status != 0:
            raise BlixardError(
                _error(plain(finished.stderr)) or f"nix ended with status {finished.status}",
                remedy=f"check that the node reaches {url} and that it holds a flake.nix",
                code=Code.SOURCE_UNREADABLE,
            )
        metadata: Mapping[str, Any] = json.loads(finished.stdout)
        return metadata


def _error(output: str) -> str:
    """What Nix gives as its reason: the lines from its first `error:` on, without warnings."""
    lines = [line for line in output.splitlines() if not line.startswith(("warning:", "(use '"))]
    text = "\n".join(lines)
    return text[max(0, text.find("error:")) :].removeprefix("error:").strip()


def pinned(url: str, locked: Mapping[str, Any]) -> str:
    """The locked reference with its content hash, which Nix checks when it fetches. A git revision
    is itself a hash of the content, and Nix would send the parameter to the git server."""
    if locked["type"] == "git" or "narHash=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}narHash={quote(locked['narHash'], safe='')}"
