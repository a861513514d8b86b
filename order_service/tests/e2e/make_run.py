"""Driver of `make run` (scripts/run-without-docker.sh): the real script with separate ports, data and logs."""

import os
import pathlib
import shutil
import subprocess

from ports import free_port
from processes import RealProcess
from stubs import REPOSITORY

DEFAULT_PORTS = {"manager": 8093, "order": 8094, "http": 8095}
_LAST_LINE = "how it is "


def folder_of_programs(home: pathlib.Path, order_service: pathlib.Path, data_manager: pathlib.Path) -> pathlib.Path:
    """What `RUN_BIN_DIR` wants: both programs in one folder."""
    folder = home / "bin"
    folder.mkdir()
    (folder / "order_service").symlink_to(order_service)
    (folder / "data_manager").symlink_to(data_manager)
    return folder


class MakeRun(RealProcess):
    """The script. `stop` is what SIGTERM (as Ctrl-C) makes it do: exit code 0 once it serves."""

    def __init__(self, home: pathlib.Path, data_dir: pathlib.Path, bin_dir: pathlib.Path, ports: dict, env=None):
        self.bin_dir, self.log_dir, self.data_dir, self.ports = bin_dir, home / "run", data_dir, ports
        self.settings = {
            "ORDER_SERVICE_APP_PORT": str(ports["order"]),
            "ORDER_SERVICE_HTTP_PORT": str(ports["http"]),
            "ORDER_SERVICE_DATA_DIR": str(data_dir),
        }
        environment = {
            **self.settings,
            "DATA_MANAGER_APP_PORT": str(ports["manager"]),
            "RUN_BIN_DIR": str(bin_dir),
            "RUN_LOG_DIR": str(self.log_dir),
            **(env or {}),
        }
        script = REPOSITORY / "scripts" / "run-without-docker.sh"
        super().__init__("make run", ["bash", script], home / "make-run.log", ports["http"], environment)

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def is_serving(self) -> bool:
        return _LAST_LINE in self.said()

    def pid_of(self, program: str) -> int:
        """Of `order_service` or `data_manager`, as the script started it."""
        return int((self.log_dir / f"{program}.pid").read_text())

    def log_tail(self, lines: int = 40) -> str:
        """Of the script and of both programs."""
        tails = [super().log_tail(lines)]
        for log in sorted(self.log_dir.glob("*.log")):
            tails.append(f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:]))
        return "\n".join(tails)

    def checkout(self) -> pathlib.Path:
        """What a reader sees as the repository after `make run`; its `configs` are a copy, and committed."""
        folder = self.log.parent / "checkout"
        (folder / "target").mkdir(parents=True)
        (folder / "target" / "release").symlink_to(self.bin_dir)
        (folder / "target" / "run").symlink_to(self.log_dir)
        shutil.copytree(REPOSITORY / "configs", folder / "configs")
        commit = ["-c", "user.name=reader", "-c", "user.email=reader@localhost", "commit", "-qm", "Begin"]
        merged = ["update-ref", "refs/remotes/origin/main", "HEAD"]
        for words in (["init", "-q"], ["add", "configs"], commit, merged):
            subprocess.run(["git", *words], cwd=folder, check=True, timeout=20)
        # On a terminal it shows no progress, either, if its output goes there.
        (folder / ".curlrc").write_text("silent\nshow-error\n")
        return folder

    def reader_environment(self) -> dict:
        """Another terminal's, with what the script says is needed to reach it."""
        return {**self.settings, "PATH": f"{self.bin_dir}:{os.environ['PATH']}", "CURL_HOME": "."}

    def typed_here(self, command: str) -> str:
        """A page's command, with this instance's ports."""
        for which, port in DEFAULT_PORTS.items():
            command = command.replace(str(port), str(self.ports[which]))
        return command

    def as_by_default(self, lines: list[str]) -> list[str]:
        """What was printed here, as it is without settings and in the repository itself."""
        words = [(f"{name}={value} ", "") for name, value in self.settings.items()]
        words += [(str(self.bin_dir), "target/release"), (str(self.log_dir), "target/run")]
        words += [(str(self.data_dir), "/var/lib/order_service")]
        words += [(str(self.ports[which]), str(port)) for which, port in DEFAULT_PORTS.items()]
        result = []
        for line in lines:
            for here, there in words:
                line = line.replace(here, there)
            result.append(line)
        return result


def new_ports(order: int, manager: int) -> dict[str, int]:
    return {"manager": manager, "order": order, "http": free_port()}
