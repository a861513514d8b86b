"""A test order service that only records callbacks, to test our data manager against.

`batch=False` leaves out `SendOrdersDataCallback`, as an old order service does. While `refusing` is set, every callback
is answered with that status (and counted in `refused`).
"""

import collections
import dataclasses
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import empty_pb2

from stubs import orders


@dataclasses.dataclass(frozen=True)
class Callback:
    order_id: int
    data: tuple[int, int]
    at: float  # time.monotonic()
    via: str  # "single" or "batch"


class RecordingOrderService:
    """Serves on 127.0.0.1:`port` from its construction until `close`."""

    def __init__(self, port: int, batch: bool = True):
        self.callbacks: list[Callback] = []
        self.refusing: grpc.StatusCode | None = None
        self.refused = 0
        self._lock = threading.Lock()
        handlers = {"SendOrderDataCallback": (self._single, orders.SendOrderDataCallbackRequest)}
        if batch:
            handlers["SendOrdersDataCallback"] = (self._batch, orders.SendOrdersDataCallbackRequest)
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                run, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString()
            )
            for name, (run, request) in handlers.items()
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("order_service.OrderService", methods),)
        )
        assert self._server.add_insecure_port(f"127.0.0.1:{port}") == port
        self._server.start()

    def _single(self, request, context):
        if refusal := self._refuses(1):
            context.abort(refusal, "refused by plan")
        self._record([request], "single")
        return empty_pb2.Empty()

    def _batch(self, request, context):
        if refusal := self._refuses(len(request.callbacks)):
            context.abort(refusal, "refused by plan")
        self._record(request.callbacks, "batch")
        return orders.SendOrdersDataCallbackResponse()

    def _refuses(self, callbacks: int) -> grpc.StatusCode | None:
        with self._lock:
            self.refused += callbacks if self.refusing else 0
            return self.refusing

    def _record(self, callbacks, via: str) -> None:
        now = time.monotonic()
        with self._lock:
            for c in callbacks:
                self.callbacks.append(Callback(c.order_id, (c.storage_id, c.pickup_point_id), now, via))

    def of(self, order_id: int) -> list[Callback]:
        """The callbacks of one order, oldest first."""
        with self._lock:
            return [callback for callback in self.callbacks if callback.order_id == order_id]

    def counts(self) -> collections.Counter:
        """Callbacks per order."""
        with self._lock:
            return collections.Counter(callback.order_id for callback in self.callbacks)

    def data(self) -> dict[int, tuple[int, int]]:
        """The data told for each order; it must be the same each time."""
        with self._lock:
            told = {}
            for callback in self.callbacks:
                assert told.setdefault(callback.order_id, callback.data) == callback.data, callback
            return told

    def close(self) -> None:
        self._server.stop(grace=None).wait(5)
