"""Request ids as text, so that a person can repeat a request whose outcome was lost."""

import re
from typing import Final

from blixard.v1 import blixard_pb2 as pb

_TEXT: Final = re.compile(r"([0-9A-Za-z-]{1,64})/([0-9]{1,18})@([0-9]{1,18})")


def format_request_id(request: pb.RequestId) -> str:
    """`SESSION/NUMBER@BASE_INDEX`."""
    return f"{request.session}/{request.number}@{request.base_index}"


def parse_request_id(text: str) -> pb.RequestId:
    """The request id that `format_request_id` wrote. Raises ValueError."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("write it as it was shown: SESSION/NUMBER@INDEX")
    return pb.RequestId(session=match[1], number=int(match[2]), base_index=int(match[3]))
