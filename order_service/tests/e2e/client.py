"""Independent gRPC client of both services."""

import grpc
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stubs import manager, manager_grpc, orders, orders_grpc, rpc_details
from waiting import wait_until

CHANNEL_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # an order is sent once, or the tests of "without being sent again" show nothing
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.max_receive_message_length", 64 << 20),
]
UNFINISHED = (
    orders.ORDER_STATE_INITIALIZED,
    orders.ORDER_STATE_PROCESS_STARTED,
    orders.ORDER_STATE_FINISHED_EXTERNAL_INTERACTION,
)
FINISHED = orders.ORDER_STATE_PROCESS_FINISHED
FAILED = orders.ORDER_STATE_FAILED


def open_channel(address: str, *more_options, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    options = [*CHANNEL_OPTIONS, *more_options]
    if credentials is not None:
        return grpc.secure_channel(address, credentials, options=options)
    return grpc.insecure_channel(address, options=options)


def request_of(pairs) -> orders.ProcessOrdersRequest:
    """A request from `(order_id, product_id)` pairs."""
    order = orders.ProcessOrdersRequest.OrderRequest
    return orders.ProcessOrdersRequest(orders=[order(order_id=i, product_id=p) for i, p in pairs])


def result_of(order) -> tuple[int, int, int, int]:
    """What must never change: id, product, storage, pickup point (of an `OrderResponse` or an `Order`)."""
    return (order.order_id, order.product_id, order.storage_id, order.pickup_point_id)


def refusal_of(call, *args, **kwargs) -> grpc.RpcError:
    """The error that `call` must end with."""
    try:
        answer = call(*args, **kwargs)
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"answered instead of refused: {str(answer)[:300]}")


def field_violations(error: grpc.RpcError) -> list:
    """The `google.rpc.BadRequest` violations that an error carries."""
    found = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in rpc_details.Status.FromString(value).details:
                bad_request = rpc_details.BadRequest()
                if detail.Unpack(bad_request):
                    found.extend(bad_request.field_violations)
    return found


class OrderClient:
    """One channel to one order service."""

    def __init__(self, address: str, *channel_options, credentials: grpc.ChannelCredentials | None = None):
        self.address = address
        self.channel = open_channel(address, *channel_options, credentials=credentials)
        self.stub = orders_grpc.OrderServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def process(self, pairs, timeout: float | None = 30, **kwargs) -> list:
        """`ProcessOrders`; the answers, after checking that they come in the order of the request."""
        pairs = list(pairs)
        answers = list(self.stub.ProcessOrders(request_of(pairs), timeout=timeout, **kwargs).processed_orders)
        assert [(a.order_id, a.product_id) for a in answers] == pairs, "not in the order of the request"
        return answers

    def get(self, order_id: int) -> orders.Order:
        return self.stub.GetOrder(orders.GetOrderRequest(order_id=order_id), timeout=10)

    def knows(self, order_id: int) -> bool:
        try:
            self.get(order_id)
            return True
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return False
            raise

    def retry(self, order_id: int) -> orders.Order:
        return self.stub.RetryOrder(orders.RetryOrderRequest(order_id=order_id), timeout=10)

    def page(self, state=0, size=0, token="", wait=False) -> orders.ListOrdersResponse:
        """`wait`: also for a connection to a service that has just been started again."""
        request = orders.ListOrdersRequest(state=state, page_size=size, page_token=token)
        return self.stub.ListOrders(request, timeout=20, wait_for_ready=wait)

    def list_all(self, state=0, size=1000) -> list:
        """Every order of a state, page after page."""
        found, token = [], ""
        while True:
            page = self.page(state, size, token)
            found.extend(page.orders)
            token = page.next_page_token
            if not token:
                return found

    def has_unfinished(self) -> bool:
        """States only move forward, so asking in their order overlooks no order."""
        return any(self.page(state, size=1, wait=True).orders for state in UNFINISHED)

    def wait_all_ended(self, timeout: float) -> None:
        wait_until(lambda: not self.has_unfinished(), timeout, "every order finished or failed", every=0.1)

    def wait_state(self, order_id: int, state: int, timeout: float) -> orders.Order:
        wait_until(lambda: self.get(order_id).state == state, timeout, f"order {order_id} in state {state}")
        return self.get(order_id)

    def send_callback(self, order_id: int, storage_id: int, pickup_point_id: int) -> None:
        callback = orders.SendOrderDataCallbackRequest(
            order_id=order_id, storage_id=storage_id, pickup_point_id=pickup_point_id
        )
        self.stub.SendOrderDataCallback(callback, timeout=10)

    def health_status(self, service: str = "") -> int:
        return self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status

    def close(self) -> None:
        self.channel.close()


class ManagerClient:
    """One channel to one data manager."""

    def __init__(self, address: str):
        self.channel = open_channel(address)
        self.stub = manager_grpc.DataManagerStub(self.channel)

    def ask(self, order_id: int) -> None:
        """`GetOrderDataCallback`, as an order service asks it."""
        self.stub.GetOrderDataCallback(manager.GetOrderDataCallbackRequest(order_id=order_id), timeout=20)

    def given(self) -> dict[int, tuple[int, int]]:
        """What it says it gave: order id -> (storage, pickup point)."""
        listed = self.stub.GetOrdersData(empty_pb2.Empty(), timeout=30).orders
        given = {order.order_id: (order.storage_id, order.pickup_point_id) for order in listed}
        assert len(given) == len(listed), "GetOrdersData lists an order twice"
        return given

    def close(self) -> None:
        self.channel.close()


def assert_processed_as_given(answers, given: dict[int, tuple[int, int]]) -> None:
    """Every answer (of ProcessOrders or the stream) is processed, with exactly the data that was given."""
    for answer in answers:
        assert answer.is_processed, f"not processed: {result_of(answer)}"
        assert given[answer.order_id] == (answer.storage_id, answer.pickup_point_id), answer.order_id
