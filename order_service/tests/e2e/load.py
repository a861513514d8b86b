"""Load from clients outside the blast radius: threads that send small batches of new orders and write a history."""

import itertools
import random
import threading

import grpc

from client import OrderClient
from history import History


class Load:
    """`clients` threads from entering the context to leaving it; every order is sent exactly once."""

    def __init__(self, port: int, clients: int = 6):
        self.history = History()
        self._address, self._stop = f"127.0.0.1:{port}", threading.Event()
        # The ids of the clients interleave, and half of the clients use negative ones.
        signs = itertools.cycle((1, -1))
        streams = [itertools.count(sign * n, sign * clients) for n, sign in zip(range(1, clients + 1), signs)]
        self._threads = [threading.Thread(target=self._send, args=(ids,)) for ids in streams]

    def _send(self, ids) -> None:
        client, chance = OrderClient(self._address), random.Random()
        while not self._stop.wait(0.01):
            pairs = [(next(ids), chance.randint(1, 1000)) for _ in range(chance.randint(1, 8))]
            try:
                self.history.answered(client.process(pairs, timeout=10, wait_for_ready=True))
            except grpc.RpcError as error:
                self.history.failed(pairs, error.code())
        client.close()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
