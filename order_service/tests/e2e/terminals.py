"""Commands run in a pseudo-terminal of a given size."""

import fcntl
import os
import pty
import re
import struct
import termios
import time
from dataclasses import dataclass

from processes import clean_environment


# What makes text bold or coloured takes no room.
STYLE = re.compile("\x1b\\[[0-9;]*m")


@dataclass
class Screen:
    returncode: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def assert_fits(self, columns: int, lines: int | None = None) -> None:
        visible = [STYLE.sub("", line) for line in self.lines]
        widest = max(visible, key=len, default="")
        assert len(widest) <= columns, f"{len(widest)} columns: {widest}\n{self.text}"
        assert lines is None or len(self.lines) <= lines, f"{len(self.lines)} lines\n{self.text}"


def run_in_terminal(command: list, columns: int = 80, lines: int = 24, env=None, timeout: float = 30) -> Screen:
    """A command to its end, with standard output and error on a terminal of this size; what it wrote, as text."""
    words = [str(word) for word in command]
    pid, terminal = pty.fork()
    if pid == 0:
        # The size is there before the program asks for it.
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        try:
            os.execve(words[0], words, clean_environment(env))
        finally:
            os._exit(127)
    written, end = b"", time.monotonic() + timeout
    try:
        while time.monotonic() < end:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # its end is closed: the command is gone
                break
            if not chunk:
                break
            written += chunk
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return Screen(os.waitstatus_to_exitcode(status), written.decode().replace("\r\n", "\n"))
