"""How a refusal travels: a gRPC status for its class, the whole of it in the trailing metadata."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import wraps
from typing import Any, Final, NoReturn, TypeVar, cast

import grpc

from blixard.errors import BlixardError, Code
from blixard.model import Fix, Rejected
from blixard.v1 import blixard_pb2 as pb
from blixard.wire import actor

ERROR_KEY: Final = "blixard-error-bin"

_STATUS: Final = {
    Code.USAGE: grpc.StatusCode.INVALID_ARGUMENT,
    Code.SOURCE_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Code.BAD_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Code.NODE_TAKEN: grpc.StatusCode.ALREADY_EXISTS,
    Code.NO_SUCH_VM: grpc.StatusCode.NOT_FOUND,
    Code.NO_SUCH_NODE: grpc.StatusCode.NOT_FOUND,
    Code.NO_LEADER: grpc.StatusCode.UNAVAILABLE,
    Code.NO_ROUTE: grpc.StatusCode.UNAVAILABLE,
    Code.OUTCOME_UNKNOWN: grpc.StatusCode.UNAVAILABLE,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
    Code.SOURCE_UNREADABLE: grpc.StatusCode.FAILED_PRECONDITION,
}

_log = logging.getLogger(__name__)
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class Refused(Exception):
    """Ends a call with a refusal. `leader_address` sends the caller to another node."""

    def __init__(
        self, rejected: Rejected, *, leader_address: str = "", maybe_applied: bool = False
    ) -> None:
        super().__init__(rejected.message)
        self.rejected = rejected
        self.leader_address = leader_address
        self.maybe_applied = maybe_applied


def status_of(code: Code) -> grpc.StatusCode:
    """The gRPC status that stands for a code."""
    return _STATUS.get(code, grpc.StatusCode.FAILED_PRECONDITION)


def refusal_in(failed: grpc.RpcError) -> Refused | None:
    """The refusal that a failed call carries; None if the call failed on its way."""
    metadata = cast("Iterable[tuple[str, str | bytes]]", failed.trailing_metadata() or ())
    # No dict(metadata): grpc.aio has mappings that iterate over pairs.
    carried = next((value for key, value in metadata if key == ERROR_KEY), None)
    if not isinstance(carried, bytes):
        return None
    error = pb.Error.FromString(carried)
    rejected = Rejected(
        code=_code(error.code),
        message=error.message,
        why=error.why,
        fixes=tuple(Fix(fix.text, fix.command) for fix in error.fixes),
    )
    return Refused(rejected, leader_address=error.leader_address, maybe_applied=error.maybe_applied)


def _code(number: int) -> Code:
    """The code of a number; a newer node may send one that this release does not know."""
    try:
        return Code(number)
    except ValueError:
        return Code.INTERNAL


Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, _Request, Context], Awaitable[_Response]]
Streamer = Callable[[Any, _Request, Context], AsyncIterator[_Response]]


def answers(handler: Handler[_Request, _Response]) -> Handler[_Request, _Response]:
    """Turn what a handler raises into a status, so that no call ends with a traceback."""

    @wraps(handler)
    async def answered(self: Any, request: _Request, context: Context) -> _Response:
        try:
            _note_actor(context)
            return await handler(self, request, context)
        except (grpc.aio.AbortError, grpc.aio.BaseError):
            raise
        except Exception as error:  # noqa: BLE001 - a call never ends with a traceback
            return await _abort(context, _refusal(error, handler.__name__))

    return answered


def streams(handler: Streamer[_Request, _Response]) -> Streamer[_Request, _Response]:
    """As `answers`, for a handler that yields many answers."""

    @wraps(handler)
    async def streamed(self: Any, request: _Request, context: Context) -> AsyncIterator[_Response]:
        try:
            _note_actor(context)
            async for response in handler(self, request, context):
                yield response
        except (grpc.aio.AbortError, grpc.aio.BaseError):
            raise
        except Exception as error:  # noqa: BLE001 - a call never ends with a traceback
            await _abort(context, _refusal(error, handler.__name__))

    return streamed


def _note_actor(context: Context) -> None:
    metadata = cast("Iterable[tuple[str, str | bytes]]", context.invocation_metadata() or ())
    wrong = actor.note(metadata)
    if wrong is not None:
        raise Refused(wrong)


def _refusal(error: Exception, call: str) -> Refused:
    match error:
        case Refused():
            return error
        case BlixardError():
            fixes = (Fix(error.remedy),) if error.remedy else ()
            return Refused(Rejected(error.code, error.message, fixes=fixes))
        case _:
            _log.error("%s failed", call, exc_info=error)
            return Refused(
                Rejected(
                    Code.INTERNAL,
                    f"{call} failed: {error}",
                    why="this is a defect of Blixard; the node's log has the details",
                )
            )


async def _abort(context: Context, refused: Refused) -> NoReturn:
    rejected = refused.rejected
    error = pb.Error(
        code=rejected.code.value,
        message=rejected.message,
        why=rejected.why,
        fixes=[pb.Fix(text=fix.text, command=fix.command) for fix in rejected.fixes],
        leader_address=refused.leader_address,
        maybe_applied=refused.maybe_applied,
    )
    metadata = ((ERROR_KEY, error.SerializeToString()),)
    await context.abort(status_of(rejected.code), rejected.message, trailing_metadata=metadata)
    raise AssertionError("abort always raises")
