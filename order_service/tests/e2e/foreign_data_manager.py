"""Independent data manager: a gRPC server in this process with fault injection per order.

Each order has a plan: a `Behaviour`, or a status code with which every question about it is refused. Every injected
fault is counted in `faults`; a fault test asserts that the count is not zero.
"""

import collections
import threading
from concurrent import futures

import grpc
from google.protobuf import empty_pb2

from client import open_channel
from foreign_behaviours import Behaviour, answer, first_data
from stubs import manager, orders, orders_grpc

SINGLE, BATCH = "GetOrderDataCallback", "GetOrdersDataCallback"


class _CountUnknownCalls(grpc.GenericRpcHandler):
    """Stands behind the real handlers: what arrives here is answered UNIMPLEMENTED."""

    def __init__(self, seen: collections.Counter):
        self._seen = seen

    def service(self, details):
        self._seen[details.method.rsplit("/", 1)[-1]] += 1
        return None


class ForeignDataManager:
    """Serves from its construction until `close`; `order_addresses[route(order_id)]` gets an order's callback."""

    def __init__(self, port: int, order_addresses: list, batch=False, default=Behaviour.BEFORE):
        self.default, self.plans, self.route = default, {}, lambda order_id: 0
        self.data = first_data  # what it gives for an order id: (storage, pickup point)
        self.batch_refusal = None  # a status code with which every question about several is refused as a whole
        self.delay, self.late, self.slow = 0.2, 2.5, 5.0
        self.questions = collections.Counter()  # by order id
        self.calls, self.unimplemented = collections.Counter(), collections.Counter()  # by method
        self.faults = collections.Counter()  # by behaviour
        self.callback_codes = collections.Counter()
        self.accepted_by = collections.Counter()  # callbacks answered Empty, by index of the address
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.most_at_once, self._at_once = 0, 0
        self._lock, self.closed, self._timers = threading.Lock(), threading.Event(), []
        self._channels = [open_channel(address) for address in order_addresses]
        self._stubs = [orders_grpc.OrderServiceStub(channel) for channel in self._channels]
        self._workers = futures.ThreadPoolExecutor(64)
        self._server = self._serve(port, batch)

    def _serve(self, port: int, batch: bool) -> grpc.Server:
        handlers = {SINGLE: (self._single, manager.GetOrderDataCallbackRequest)}
        if batch:
            handlers[BATCH] = (self._batch, manager.GetOrdersDataCallbackRequest)
        methods = {
            name: grpc.unary_unary_rpc_method_handler(
                run, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString()
            )
            for name, (run, request) in handlers.items()
        }
        server = grpc.server(futures.ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
        known = grpc.method_handlers_generic_handler("data_manager.DataManager", methods)
        server.add_generic_rpc_handlers((known, _CountUnknownCalls(self.unimplemented)))
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        server.start()
        return server

    def _single(self, request, context):
        with self._lock:
            self.calls[SINGLE] += 1
        refusal = self._answer(request.order_id, context)
        if refusal:
            context.abort(*refusal)
        return empty_pb2.Empty()

    def _batch(self, request, context):
        with self._lock:
            self.calls[BATCH] += 1
        if self.batch_refusal:
            context.abort(self.batch_refusal, "refused as a whole by plan")
        answers = self._workers.map(lambda order_id: (order_id, self._answer(order_id, context)), request.order_ids)
        response = manager.GetOrdersDataCallbackResponse()
        for order_id, refusal in answers:
            if refusal:
                response.errors.add(order_id=order_id, code=refusal[0].value[0], message=refusal[1])
        return response

    def _answer(self, order_id: int, context):
        """None, or the status and message of a refusal."""
        with self._lock:
            self.questions[order_id] += 1
            nth = self.questions[order_id]
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return answer(self, self.plans.get(order_id, self.default), order_id, nth, context)
        finally:
            with self._lock:
                self._at_once -= 1

    def count(self, fault) -> None:
        """One more injected fault."""
        with self._lock:
            self.faults[fault] += 1

    def send_in(self, seconds: float, order_id: int, data=None) -> None:
        """`send`, later, on a thread of its own."""
        timer = threading.Timer(seconds, self.send, (order_id, data))
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def send(self, order_id: int, data=None) -> bool:
        """Whether the order service answered `Empty`."""
        storage, pickup = data or self.data(order_id)
        request = orders.SendOrderDataCallbackRequest
        callback = request(order_id=order_id, storage_id=storage, pickup_point_id=pickup)
        address, code = self.route(order_id), grpc.StatusCode.OK
        try:
            self._stubs[address].SendOrderDataCallback(callback, timeout=5)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            code = error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.CANCELLED
        with self._lock:
            self.callback_codes[code] += 1
            if code == grpc.StatusCode.OK:
                self.accepted_by[address] += 1
                self.acknowledged.setdefault(order_id, (storage, pickup))
        return code == grpc.StatusCode.OK

    def close(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        for timer in self._timers:
            timer.cancel()
        self._server.stop(grace=None).wait(5)
        self._workers.shutdown(wait=False, cancel_futures=True)
        for channel in self._channels:
            channel.close()
