"""Comparison of a page's shown output with a command's output, ignoring what differs from run to run."""

import difflib
import re

# In this order: a uuid holds hexadecimal digits, too.
_NEVER_THE_SAME = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{16,64}\b"), "<hash>"),
    (re.compile(r"\(process \d+"), "(process <pid>"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s) ago\b"), "<age> ago"),
    (re.compile(r"─+"), "─"),
    (re.compile(r"═+"), "═"),
    (re.compile(r"[ \t]+"), " "),
]
_COLUMN_BORDER = re.compile("[│┆]")
_SOMETHING = "…"


def normalised(lines: list[str]) -> list[str]:
    """Without what is never the same twice."""
    result = []
    for line in lines:
        for pattern, name in _NEVER_THE_SAME:
            line = pattern.sub(name, line)
        result.append(line.strip())
    return result


def _with_drawn_values(lines: list[str], drawn: dict[str, str]) -> list[str]:
    """The page's drawn values replaced by those of this run."""
    if not drawn:
        return lines
    word = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, drawn)) + r")(?![\w.])")
    return [word.sub(lambda found: drawn[found[1]], line) for line in lines]


def _with_varying_cells(lines: list[str], columns: set[str], drawn: dict[str, str]) -> list[str]:
    """Cells of `columns` stand for anything, but for values that were read."""
    result, header = [], []
    for line in lines:
        cells = [cell.strip() for cell in _COLUMN_BORDER.split(line)]
        if line.startswith("┌"):
            header = []
        elif line.startswith("│") and not header:
            header = cells
        elif line.startswith("│"):
            wild = [name in columns and cell != "" and cell not in drawn.values() for name, cell in zip(header, cells)]
            line = "┆".join(_SOMETHING if is_wild else cell for is_wild, cell in zip(wild, cells))
        result.append(line)
    return result


def _pattern(lines: list[str]) -> re.Pattern:
    def of_line(line: str) -> str:
        if line == _SOMETHING:
            return "(?:.*\n)*?"
        return ".*".join(map(re.escape, line.split(_SOMETHING))) + "\n"

    return re.compile("".join(map(of_line, lines)))


def _plain(line: str) -> str:
    """One kind of column border and no spaces beside them, so that cells can be written again."""
    return re.sub(" ?[│┆] ?", "┆", line)


def difference(shown: list[str], printed: list[str], columns: set[str], drawn: dict[str, str]) -> str | None:
    """None if `printed` is what `shown` promises, else a readable difference."""
    wanted = _with_varying_cells(_with_drawn_values(normalised(shown), drawn), columns, drawn)
    wanted, printed = list(map(_plain, wanted)), list(map(_plain, normalised(printed)))
    if _pattern(wanted).fullmatch("".join(line + "\n" for line in printed)):
        return None
    return "\n".join(difflib.unified_diff(wanted, printed, "the page", "this run", lineterm="", n=20))
