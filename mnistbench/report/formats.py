"""How a table is said: rich, markdown, latex and html for people, csv and json for programs.

Each renderer takes a `Table` of plain text and escapes it for its own format.
"""

from __future__ import annotations

import html
import json
import math
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mnistbench.errors import UsageError, nearest

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

FOR_PEOPLE = ("rich", "markdown", "latex", "html")
FOR_PROGRAMS = ("csv", "json")
FORMATS = (*FOR_PEOPLE, *FOR_PROGRAMS)

NOTHING = "–"
ONE_SEED = "n=1: differences may be noise (--seeds 3 repeats every configuration)"

# The width of what is no terminal: nothing there needs to be wrapped or cut.
_ENDLESS = 100_000
# Names longer than this fold before a column is left out.
_NARROWEST_NAME = 12


@dataclass(frozen=True)
class Table:
    """A table as plain, unescaped text; `right` says which columns are flush right.

    On a terminal that is too narrow the last columns are left out, and `hint` says what to do;
    where the table means nothing unless `whole`, its text folds instead.
    """

    caption: str
    headings: tuple[str, ...]
    right: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    whole: bool = False
    hint: str = "widen the terminal, or take another --format"


def check_format(name: str) -> str:
    """Return `name` if it is one of `FORMATS`, or raise `UsageError`."""
    if name not in FORMATS:
        raise UsageError(f"--format {name!r} is unknown; {nearest(name, FORMATS)}")
    return name


def raw(frame: pd.DataFrame, fmt: str) -> str:
    """Return `frame` as csv, or as a json list of objects in which what is missing is null."""
    if fmt == "csv":
        return str(frame.to_csv(index=False, lineterminator="\n"))
    # DataFrame.to_json rounds to 15 decimals, which a loss of 1e-9 can tell.
    plain = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return json.dumps([_finite(row) for row in plain], indent=2, allow_nan=False) + "\n"


def _finite(row: dict[Any, Any]) -> dict[Any, Any]:
    """Return `row` without what JSON cannot say: infinities become null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def show(table: Table, fmt: str = "rich") -> None:
    """Print `table` to stdout in one of the formats for people."""
    if fmt == "rich":
        print_rich(table)
    else:
        sys.stdout.write(render(table, fmt))


def render(table: Table, fmt: str) -> str:
    """Return `table` as markdown, latex (for the package booktabs) or html, ready to print."""
    table = _one_line_each(table)
    if fmt == "markdown":
        return _markdown(table)
    return _latex(table) if fmt == "latex" else _html(table)


def print_rich(table: Table, console: Console | None = None) -> None:
    """Print `table` for a terminal; elsewhere without colours, and as wide as it needs to be.

    Where a terminal is too narrow, names fold first, and then the last columns are left out and
    named below.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    table = _one_line_each(table)
    console = console or Console()
    whole, width = not console.is_terminal, console.width
    fits = whole or _width(table, gap=3) <= width
    if fits and table.rows:
        # Nothing folds, so all rows may be one of many lines: 1,000 cost rich 0.6 s otherwise.
        joined = tuple(map("\n".join, zip(*table.rows, strict=True)))
        table = replace(table, rows=(joined,))
    elif not fits:
        table = _narrowed(table, width)
    # Text, never str: rich would read `[lr=0.1]` as markup.
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=not fits)
    for heading, right in zip(table.headings, table.right, strict=True):
        justify: Any = "right" if right else "left"
        grid.add_column(Text(heading), justify=justify, no_wrap=right, overflow="fold")
    for row in table.rows:
        grid.add_row(*map(Text, row))
    if whole:
        console.width = _ENDLESS
    try:
        if table.caption:
            console.print(Text(table.caption, style="dim"), soft_wrap=whole)
        console.print(grid)
        for note in table.notes:
            console.print(Text(note, style="dim"), soft_wrap=whole)
        for number, line in enumerate(table.failures):
            indent = "  " if number else ""
            console.print(Text(indent + line, style="" if number else "bold red"), soft_wrap=whole)
    finally:
        if whole:
            console.width = width


def _widths(table: Table) -> list[int]:
    """Return the width of each column in cells of a terminal; a heading may have two lines."""
    from rich.cells import cell_len

    return [
        max(map(cell_len, (*heading.split("\n"), *cells)))
        for heading, *cells in zip(table.headings, *table.rows, strict=True)
    ]


def _width(table: Table, gap: int) -> int:
    return sum(width + gap for width in _widths(table))


def _narrowed(table: Table, width: int) -> Table:
    """Return `table` with units on lines of their own and without the last columns, as it must."""
    two_lines = tuple(heading.replace(" (", "\n(") for heading in table.headings)
    table = replace(table, headings=two_lines)
    widths = [
        size if right else min(size, _NARROWEST_NAME)
        for size, right in zip(_widths(table), table.right, strict=True)
    ]
    # The names and the first number stay, however much the names must fold for it.
    least = 1 + next((place for place, right in enumerate(table.right) if right), 0)
    kept = len(widths)
    while not table.whole and kept > least and sum(size + 2 for size in widths[:kept]) > width:
        kept -= 1
    if kept == len(widths):
        return table
    missing = ", ".join(heading.replace("\n", " ") for heading in table.headings[kept:])
    note = f"too narrow for {missing}: {table.hint}"
    return replace(
        table,
        headings=table.headings[:kept],
        right=table.right[:kept],
        rows=tuple(row[:kept] for row in table.rows),
        notes=(*table.notes, note),
    )


def _one_line_each(table: Table) -> Table:
    """Return `table` without line breaks and control characters, which no format survives."""

    def clean(text: str) -> str:
        if text.isprintable() and "  " not in text:
            return text.strip()
        words = "".join(char if char.isprintable() else " " for char in text).split()
        return " ".join(words)

    return replace(
        table,
        caption=clean(table.caption),
        headings=tuple(map(clean, table.headings)),
        rows=tuple(tuple(map(clean, row)) for row in table.rows),
        notes=tuple(map(clean, table.notes)),
        failures=tuple(map(clean, table.failures)),
    )


def _tabulated(table: Table, escape: Any, tablefmt: str) -> str:
    import tabulate

    text: str = tabulate.tabulate(
        [[escape(cell) for cell in row] for row in table.rows],
        [escape(heading) for heading in table.headings],
        tablefmt=tablefmt,
        # Without rows tabulate has no columns to align.
        colalign=["right" if right else "left" for right in table.right] if table.rows else None,
        disable_numparse=True,
    )
    return text


def _markdown(table: Table) -> str:
    parts = [_markdown_line(table.caption)] if table.caption else []
    # GitHub's tables, with their alignment.
    parts.append(_tabulated(table, _escape_markdown, "pipe"))
    parts += map(_markdown_line, table.notes)
    if table.failures:
        head, *lines = map(_markdown_line, table.failures)
        parts.append("\n".join([head, "", *(f"- {line}" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def _escape_markdown(text: str) -> str:
    # An underscore inside a word and a bracket that no parenthesis follows are plain already;
    # left alone, `sgd[weight_decay=0.1]` stays readable in the source.
    text = re.sub(r"[\\|`*<>&~]", r"\\\g<0>", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return re.sub(r"\](?=[(\[:])|\[(?=\^)|!(?=\[)", r"\\\g<0>", text)


def _markdown_line(text: str) -> str:
    # What would begin a heading, a rule or a list.
    return re.sub(r"^(\d+(?=[.)](\s|$))|(?=[-+#=]))", r"\1\\", _escape_markdown(text))


def _html(table: Table) -> str:
    text = _tabulated(table, str, "html")  # tabulate escapes for this format
    if table.caption:
        caption = f"<caption>{html.escape(table.caption)}</caption>"
        text = text.replace("<table>", f"<table>\n{caption}", 1)
    parts = [text, *(f"<p>{html.escape(note)}</p>" for note in table.notes)]
    if table.failures:
        head, *lines = map(html.escape, table.failures)
        parts += [f"<p>{head}</p>", "<ul>", *(f"<li>{line}</li>" for line in lines), "</ul>"]
    return "\n".join(parts) + "\n"


_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    # After the end of a row a bracket or a star would be its option.
    **{char: f"{{{char}}}" for char in "[]*"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "–": r"\textendash{}",
}


def _escape_latex(text: str) -> str:
    # Two hyphens in a row would become a dash.
    return re.sub("-(?=-)", "-{}", "".join(_LATEX.get(char, char) for char in text))


def _latex(table: Table) -> str:
    tabular = _tabulated(table, _escape_latex, "latex_raw")
    for rule in ("toprule", "midrule"):
        tabular = tabular.replace(r"\hline", f"\\{rule}", 1)
    tabular = tabular.replace(r"\hline", r"\bottomrule", 1)
    lines = ["% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering"]
    if table.caption:
        lines.append(f"\\caption{{{_escape_latex(table.caption)}}}")
    lines.append(tabular)
    lines += [
        f"\\par\\footnotesize {_escape_latex(text)}" for text in (*table.notes, *table.failures)
    ]
    return "\n".join([*lines, r"\end{table}"]) + "\n"
