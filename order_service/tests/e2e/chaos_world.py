"""The system under test of `chaos.py`: two processes per role over one database behind a proxy."""

import random
from concurrent.futures import ThreadPoolExecutor

import posted_units
from fault_proxy import FaultProxy
from foreign_behaviours import Behaviour
from ledger_client import LedgerClient, LostAnswer
from platform_under_test import Platform
from roles_apart import Roles
from separate_roles import SharedDatabase
from waiting import wait_until

ROLES = {
    "front": "grpc,http",
    "retry": "retry",
    "sequencer": "sequencer",
    "aggregator": "aggregator",
    "exporter": "exporter",
    "background": "scheduler,tasks,configurator",
}
# Whose work is a duty of each shard, held by one process at a time.
DUTIES = ("sequencer", "aggregator", "exporter")
REPLICAS = 2


class AnyReplica(LedgerClient):
    """Asks one replica until it does not answer, then the next."""

    def __init__(self, ports: list[int], timeout: float = 5):
        super().__init__(ports[0], timeout)
        self._replicas, self._turn = [LedgerClient(port, timeout) for port in ports], 0
        self.unknown = 0

    def call(self, *args, **kwargs):
        asked = self._replicas[self._turn % len(self._replicas)]
        try:
            answer = asked.call(*args, **kwargs)
        except LostAnswer as lost:
            self._turn += 1
            # Nobody was there: nothing has happened.
            self.unknown += not isinstance(lost.__cause__, ConnectionRefusedError)
            raise
        self._turn += answer.status == 503
        return answer

    def close(self) -> None:
        for client in self._replicas:
            client.close()


class Replicas:
    """The two processes of a role. A fault meets the one that is believed to be on duty; the other is, afterwards."""

    def __init__(self, role: str, processes: list[Roles]):
        self.role, self.processes, self._believed = role, processes, 0

    def next_victim(self) -> Roles:
        victim = self.processes[self._believed]
        self._believed = (self._believed + 1) % REPLICAS
        return victim


class World:
    """Running when it is constructed; `close` it at the end."""

    def __init__(self, platform: Platform):
        self.platform = platform
        # Twelve processes with five pools each.
        self.database = SharedDatabase(platform, max_connections="700")
        self.proxy = FaultProxy(f"127.0.0.1:{self.database.server.port}")
        platform.closing(self.proxy.close)
        self.foreign = platform.foreign_data_manager(default=Behaviour.BEFORE)
        self.foreign.data = posted_units.place
        # Any replica takes any callback, whoever has asked.
        self.foreign.route = lambda _order_id: random.randrange(REPLICAS)
        self.replicas = {role: self._replicas(role) for role in ROLES}
        self.fronts = self.replicas["front"].processes
        # Those that are believed to be on duty first.
        for n in range(REPLICAS):
            with ThreadPoolExecutor(len(ROLES)) as pool:
                list(pool.map(lambda replicas, n=n: replicas.processes[n].start(), self.replicas.values()))
            self._wait_on_duty()

    def _replicas(self, role: str) -> Replicas:
        flags = ("--database-url", self.proxy.url("control"))
        processes = [Roles(self.platform, ROLES[role], *flags, start=False, replica=n) for n in range(REPLICAS)]
        return Replicas(role, processes)

    def ledger(self, timeout: float = 5) -> AnyReplica:
        client = AnyReplica([front.http_port for front in self.fronts], timeout)
        self.platform.closing(client.close)
        return client

    @property
    def order_addresses(self) -> list[str]:
        return [f"127.0.0.1:{front.process.port}" for front in self.fronts]

    def all_ready(self) -> None:
        for replicas in self.replicas.values():
            for process in replicas.processes:
                process.wait_ready()

    def _wait_on_duty(self) -> None:
        for role in DUTIES:
            wait_until(lambda role=role: len(self.database.epochs(role)) == 4, 30, f"the {role} to be on duty")
