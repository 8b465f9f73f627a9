"""Tells what came of every call, and how long it took."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

import grpc

from blixard.ports import Meters

_Ends = Callable[[Any, Any], Awaitable[Any]]
_Yields = Callable[[Any, Any], AsyncIterator[Any]]
_METHODS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class MeasuredCalls(grpc.aio.ServerInterceptor):
    """Stands before every method that this server has; calls of others are not counted, for their
    names are the caller's choice."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = handler_call_details.method.rpartition("/")[2]
        kind, made = _METHODS[handler.request_streaming, handler.response_streaming]
        behaviour = getattr(handler, kind)
        # A method that streams may also write to its context, and is a coroutine then.
        yields = inspect.isasyncgenfunction(behaviour)
        streams = handler.request_streaming or handler.response_streaming
        return made(
            self._yields(name, behaviour) if yields else self._ends(name, behaviour, streams),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _ends(self, name: str, behaviour: _Ends, streams: bool) -> _Ends:
        async def call(request: Any, context: Any) -> Any:
            began_s = time.perf_counter()
            with self._counted(name, context):
                answer = await behaviour(request, context)
            if not streams:
                self._meters.answered(name, time.perf_counter() - began_s)
            return answer

        return call

    def _yields(self, name: str, behaviour: _Yields) -> _Yields:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._counted(name, context):
                async for answer in behaviour(request, context):
                    yield answer

        return call

    @contextlib.contextmanager
    def _counted(self, name: str, context: Any) -> Iterator[None]:
        code = "UNKNOWN"
        try:
            yield
            code = "OK"
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except BaseException:
            said = context.code()
            code = said.name if isinstance(said, grpc.StatusCode) else code
            raise
        finally:
            self._meters.called(name, code)
