"""The shell blocks of README and docs, as the tour runs them.

A block fenced as `console` is a session: commands, on lines that begin with `$ `, each followed by what it prints. What
its info string may add after the language:

    no-run: REASON          it cannot be run here, and why
    varies: COLUMN, …       cells of these columns of its tables differ from run to run

In what is shown, `…` stands for anything within a line, and by itself on a line for any number of lines. A command
`NAME=$(…); echo $NAME` reads a value that is drawn: the one that the page shows stands for the one that is read, on all
of the page. Times, ids, hashes, process ids and the widths of boxes never matter.
"""

import dataclasses
import pathlib
import re
import subprocess

from stubs import REPOSITORY

_SHELLS = {"console", "sh", "bash", "shell"}
# Of a block that is not named: nobody forgets the `$ ` unnoticed.
_COMMAND_LINE = re.compile(r"^(\$ |\w+=\$\(|(make|curl|cargo|docker|git) |(\S+/)?(order_service|data_manager|app|bench) )")
_FENCE = re.compile(r"^```(\S*)\s*(.*)$")


@dataclasses.dataclass
class Command:
    """One command of a session and the lines that the page shows after it."""

    text: str
    shown: list[str]


@dataclasses.dataclass
class Block:
    """One fenced block; `line` is that of its fence."""

    page: pathlib.Path
    line: int
    language: str
    info: str
    lines: list[str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def is_session(self) -> bool:
        return any(line.startswith("$ ") for line in self.lines)

    @property
    def is_shell(self) -> bool:
        return self.language in _SHELLS or (not self.language and any(map(_COMMAND_LINE.match, self.lines)))

    def _marker(self, name: str) -> str | None:
        return self.info.removeprefix(f"{name}:").strip() if self.info.startswith(f"{name}:") else None

    @property
    def no_run(self) -> str | None:
        """Why it is not run, or None."""
        return self._marker("no-run")

    @property
    def varies(self) -> set[str]:
        """Names of the columns that differ from run to run."""
        return {name.strip() for name in (self._marker("varies") or "").split(",")} - {""}

    @property
    def mistake(self) -> str | None:
        """What keeps the tour from knowing what to do with it."""
        if self.info and not (self.no_run or self.varies):
            return "its info string is neither `no-run: REASON` nor `varies: COLUMN, …`"
        if not self.no_run and not self.is_session:
            return "it has no line that begins with `$ `, and no `no-run: REASON`"
        return None

    def commands(self) -> list[Command]:
        commands, rest = [], list(self.lines)
        assert rest[0].startswith("$ "), f"{self}: something is shown before the first command"
        while rest:
            text = rest.pop(0).removeprefix("$ ")
            while rest and not _is_whole(text):
                text += "\n" + rest.pop(0)
            shown = []
            while rest and not rest[0].startswith("$ "):
                shown.append(rest.pop(0))
            commands.append(Command(text, shown))
        return commands


def _is_whole(text: str) -> bool:
    """Whether bash would not wait for another line."""
    if text.endswith("\\"):
        return False
    read = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    return not any(sign in read.stderr for sign in ("unexpected EOF", "unexpected end of file", "here-document"))


def _blocks(page: pathlib.Path) -> list[Block]:
    blocks, open_block = [], None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if open_block and line == "```":
            blocks.append(open_block)
            open_block = None
        elif open_block:
            open_block.lines.append(line)
        elif fence:
            open_block = Block(page, number, fence[1], fence[2], [])
    return blocks


def summary() -> list[str]:
    """How many blocks the tour runs; which it does not, and why."""
    blocks = [block for of_page in shell_blocks().values() for block in of_page]
    not_run = [f"  {block}: {block.no_run}" for block in blocks if block.no_run]
    return [f"tour: {len(blocks) - len(not_run)} shell blocks of README and docs are run, {len(not_run)} are not:", *not_run]


def shell_blocks() -> dict[str, list[Block]]:
    """By page, in the order in which one reads: the blocks that look like a shell's."""
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    found = {str(page.relative_to(REPOSITORY)): [b for b in _blocks(page) if b.is_shell] for page in pages}
    return {page: blocks for page, blocks in found.items() if blocks}
