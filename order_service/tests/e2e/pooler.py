"""pgbouncer (Debian's package) in front of a PostgreSQL, started and stopped by the test."""

import os
import pathlib
import shutil
import signal
import subprocess

from ports import free_port, is_open
from waiting import wait_until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Pooler:
    """Takes connections for the server on `target`, with Debian's settings but for `pool_mode`."""

    def __init__(self, folder: pathlib.Path, target: int, pool_mode: str):
        assert PROGRAM, "no pgbouncer on this machine: scripts/init-repo.sh --test"
        self.port = free_port()
        folder.mkdir()
        (folder / "users.txt").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"""[databases]
* = host=127.0.0.1 port={target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "users.txt"}
pool_mode = {pool_mode}
default_pool_size = 60
max_client_conn = 200
"""
        )
        # As root it refuses to run, like PostgreSQL.
        identity = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        log = (folder / "pgbouncer.log").open("ab")
        self._process = subprocess.Popen(
            [PROGRAM, str(folder / "pgbouncer.ini")], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **identity
        )
        wait_until(lambda: is_open(self.port), 10, "pgbouncer")

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(10)
