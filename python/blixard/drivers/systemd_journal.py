"""The last lines of a VM's console, from the journal."""

from systemd import journal

from blixard.drivers.console import plain


def last_lines(unit: str, invocation: str, limit: int) -> list[str]:
    """What one life of a unit wrote last, at most `limit` lines, without escape codes."""
    if not invocation:
        return []
    with journal.Reader() as reader:
        reader.add_match(_SYSTEMD_UNIT=unit)
        reader.add_match(_SYSTEMD_INVOCATION_ID=invocation)
        reader.seek_tail()
        lines: list[str] = []
        while len(lines) < limit and (entry := reader.get_previous()):
            # Bytes where the guest wrote what is no text, such as escape codes.
            message = entry.get("MESSAGE", "")
            text = plain(message if isinstance(message, bytes) else message.encode())
            lines = [*text.splitlines(), *lines]
    return lines
