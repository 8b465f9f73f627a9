"""Checksums that travel with what they protect."""

from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16


def digest(data: bytes) -> bytes:
    """A checksum of 128 bits."""
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def seal(payload: bytes) -> bytes:
    """`payload` with its length and checksum in front."""
    framed = len(payload).to_bytes(8, "big") + payload
    return digest(framed) + framed


def unseal(data: bytes) -> bytes | None:
    """The payload of what `seal` made, or None if a bit of it is wrong. Bytes that follow the
    payload are not looked at."""
    framed = data[DIGEST_BYTES:]
    length = int.from_bytes(framed[:8], "big")
    framed = framed[: 8 + length]
    if len(framed) != 8 + length or digest(framed) != data[:DIGEST_BYTES]:
        return None
    return framed[8:]
