"""Hazard: the commands of README and docs do not work, or print something else.

Each page is run from top to bottom in one terminal, beside a fresh `make run`.
"""

import re

import pytest

from tour_output import difference
from tour_pages import Block, Command, shell_blocks
from tour_shell import Shell

BLOCKS = shell_blocks()
_READS_WHAT_WAS_DRAWN = re.compile(r"^(\w+)=\$\(.*\); echo \$\1$", re.DOTALL)
# Other numbers than the README shows; no storage and no pickup point twice, or its balances would be of two orders; and
# order 17's storage on the README's shard.
SEED = "11"


def runnable(blocks: list[Block]) -> list[Block]:
    return [block for block in blocks if not block.no_run and not block.mistake]


def pages_to_run() -> list[str]:
    return [page for page, blocks in BLOCKS.items() if runnable(blocks)]


def test_every_shell_block_is_run_or_says_why_not():
    mistakes = [f"{block}: {block.mistake}" for blocks in BLOCKS.values() for block in blocks if block.mistake]
    assert not mistakes, "\n".join(mistakes)


@pytest.mark.parametrize("page", pages_to_run())
def test_the_page_prints_what_it_shows(platform, page):
    run = platform.make_run(env={"DATA_MANAGER_SEED": SEED})
    shell = Shell(run.checkout(), run.reader_environment())
    platform.closing(shell.close)

    def printed_by(command: Command) -> list[str]:
        if command.text == "make run":
            return run.as_by_default(run.said().splitlines())
        return run.as_by_default(shell.run(run.typed_here(command.text)))

    done = [(block, command, printed_by(command)) for block in runnable(BLOCKS[page]) for command in block.commands()]
    # Compared at the end: what is drawn may be shown before the page reads it.
    drawn = {}
    for block, command, printed in done:
        if _READS_WHAT_WAS_DRAWN.match(command.text) and len(printed) == len(command.shown) == 1:
            drawn[command.shown[0]] = printed[0]
    problems = []
    for block, command, printed in done:
        wrong = difference(command.shown, printed, block.varies, drawn)
        if wrong is not None:
            problems.append(f"{block}: $ {command.text}\n{wrong}")
    assert not problems, f"{len(problems)} commands print something else\n\n" + "\n\n".join(problems)
