"""Tables: what they say, and that no text can break the format that it is in."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from record_helpers import failed, frame, record
from rich.console import Console

from mnistbench.errors import UsageError
from mnistbench.report.formats import FORMATS, Table, check_format, print_rich, render
from mnistbench.report.tables import build, export, failure_lines

GRID = [
    record(model=model, optimizer=optimizer, seed=seed, test_accuracy=accuracy + seed / 1000)
    for seed in (0, 1, 2)
    for model, optimizer, accuracy in (("fcn", "adam", 0.96), ("cnn", "sgd[lr=0.1]", 0.98))
]


def cells(table: Table, heading: str) -> list[str]:
    return [row[table.headings.index(heading)] for row in table.rows]


def printed(table: Table, **console: Any) -> str:
    file = io.StringIO()
    print_rich(table, Console(file=file, **console))
    return file.getvalue()


# What a table says.


def test_the_best_test_accuracy_comes_first_as_percent_with_its_spread() -> None:
    table = build(frame(GRID))
    assert table.headings == (
        "model",
        "optimizer",
        "test accuracy (%)",
        "n",
        "parameters",
        "images/s",
        "train (s)",
        "wall (s)",
    )
    assert table.rows[0] == (
        *("cnn", "sgd[lr=0.1]", "98.10 ± 0.10", "3", "109,386"),
        *("30,000 ± 0", "1.80 ± 0.00", "3.20 ± 0.00"),
    )
    assert table.right == (False, False, True, True, True, True, True, True)
    assert table.failures == ()


def test_what_does_not_vary_is_said_once_in_the_caption() -> None:
    assert build(frame(GRID)).caption == (
        "dataset mnist · cpu · batch 64 · 1 epoch · 2 threads · torch 2.15.0 · AMD EPYC"
    )


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"epochs": 5}, "5 epochs"),
        ({"threads": 1}, "1 thread"),
        ({"amp": "bf16"}, "amp bf16"),
        ({"augmentation": "affine"}, "augmentation affine"),
        ({"validation": "640"}, "validation 640"),
        ({"device": "cuda", "device_name": "H200"}, "cuda"),
        ({"device_name": "H200"}, "H200 · AMD EPYC"),
    ],
)
def test_the_caption_names_what_is_unusual(given_: dict[str, Any], words: str) -> None:
    caption = build(frame([record(**given_)])).caption
    assert re.search(rf"(^| · ){words}( · |$)", caption), caption


@pytest.mark.parametrize(
    ("axis", "values", "heading"),
    [
        ("dataset", ["mnist", "mnist5k"], "dataset"),
        ("device", ["cpu", "cuda"], "device"),
        ("batch_size", [64, 128], "batch"),
        ("epochs", [1, 10], "epochs"),
        ("torch_version", ["2.14", "2.15"], "torch version"),
    ],
)
def test_an_axis_that_varies_is_a_column_and_not_in_the_caption(
    axis: str, values: list[Any], heading: str
) -> None:
    table = build(frame([record(**{axis: value}) for value in values]))
    assert cells(table, heading) == [str(value) for value in values]
    assert "torch 2" not in table.caption or axis != "torch_version"
    assert len(build(frame([record()])).headings) == len(table.headings) - 1


def test_two_configurations_that_look_alike_are_told_apart() -> None:
    table = build(frame([record(configuration="1a"), record(configuration="2b")]))
    assert cells(table, "configuration") == ["1a", "2b"]


@pytest.mark.parametrize(
    ("column", "values", "heading", "text"),
    [
        ("test_accuracy", [0.5], "test accuracy (%)", "50.00"),
        ("test_accuracy", [0.5, 0.6, 0.7], "test accuracy (%)", "60.00 ± 10.00"),
        ("test_accuracy_mean", [0.5, 0.6, 0.7], "test accuracy mean (%)", "60.00"),
        ("test_accuracy_std", [0.5, 0.6, 0.7], "test accuracy std (%)", "10.00"),
        ("test_accuracy_std", [0.5], "test accuracy std (%)", "–"),
        ("test_accuracy_n", [0.5, 0.6, 0.7], "test accuracy n", "3"),
        ("test_loss", [0.08125], "test loss (nats)", "0.0813"),
        ("test_loss", [math.inf], "test loss (nats)", "inf"),
        ("test_loss", [None], "test loss (nats)", "–"),
        ("parameters", [2_500_000, 2_500_000], "parameters", "2,500,000"),
        ("images_per_second", [12_345.6], "images/s", "12,346"),
        ("images_per_second", [1.5], "images/s", "1.50"),
        ("train_seconds", [9.876], "train (s)", "9.88"),
        ("train_seconds", [98.76], "train (s)", "98.8"),
        ("train_seconds", [1987.6], "train (s)", "1,988"),
        ("compile_seconds", [0.0], "compile (s)", "0"),
        ("step_p50_ms", [0.012345], "step p50 (ms)", "0.012"),
        ("seconds_to_99", [1.25], "time to 99% (s)", "1.25"),
        ("peak_rss_bytes", [3 * 2**20], "peak rss (MiB)", "3.00"),
        ("epochs_to_99", [2, 3], "epochs to 99%", "2.5 ± 0.7"),
        ("flops_per_image", [218_000], "FLOP/image", "218,000"),
        ("seed", [7], "seed", "0, 1, 7"),
        ("torch_version", ["2.15.0"], "torch version", "2.15.0"),
        ("cuda_version", [None], "cuda version", "–"),
        ("batch_size", [64], "batch", "64"),
    ],
)
def test_each_column_is_said_in_its_own_unit(
    column: str, values: list[Any], heading: str, text: str
) -> None:
    if column == "seed":
        rows = [record(seed=seed) for seed in (0, 1, 7)]
    else:
        name = re.sub(r"_(mean|std|n)$", "", column)
        rows = [record(seed=seed, **{name: value}) for seed, value in enumerate(values)]
    assert cells(build(frame(rows), columns=[column]), heading) == [text]


def test_chosen_columns_follow_those_that_tell_the_rows_apart() -> None:
    table = build(frame(GRID), columns=["wall_seconds", "model", "n"])
    assert table.headings == ("optimizer", "wall (s)", "model", "n")


def test_by_shows_its_columns_and_says_over_what_it_averages() -> None:
    rows = [record(optimizer=name, seed=seed) for name in ("adam", "sgd") for seed in (0, 1)]
    table = build(frame(rows), by=["model"])
    assert table.headings[:3] == ("model", "test accuracy (%)", "n")
    assert cells(table, "n") == ["4"]
    assert "rows average over optimizer" in table.notes


def test_a_group_that_failed_has_that_as_its_value() -> None:
    table = build(frame([record(), failed(model="cnn")]))
    assert table.rows[1] == ("cnn", "adam", "failed", "0", "1", "–", "–", "–", "–")
    table = build(
        frame([record(), failed(model="cnn")]), columns=["n", "wall_seconds", "test_loss"]
    )
    assert table.rows[1] == ("cnn", "adam", "0", "failed", "–")


def test_shared_timings_are_marked_and_explained() -> None:
    rows = [record(), record(model="cnn", jobs_on_device=2, test_accuracy=0.5)]
    table = build(frame(rows))
    assert cells(table, "images/s") == ["30,000", "*30,000"]
    assert cells(table, "wall (s)") == ["3.20", "*3.20"]
    assert cells(table, "test accuracy (%)") == ["97.00", "50.00"]
    assert any(note.startswith("*: timed while other jobs shared") for note in table.notes)
    assert not any(note.startswith("*") for note in build(frame(rows), columns=["n"]).notes)


NOTES = {
    "spread": "±: standard deviation over the n jobs of a row",
    "one": "n=1: differences may be noise (--seeds 3 repeats every configuration)",
    "hosts": "rows average over machine",
    "again": "n counts a job each time that it was run, with one seed or not",
    "left out": "times and images/s leave out the jobs that shared their device with others",
}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([record()], {"one"}),
        ([record(seed=0), record(seed=1)], {"spread"}),
        ([record(seed=0), record(seed=1), record(model="cnn")], {"spread", "one"}),
        ([record(seed=0), record(seed=1, machine="other")], {"spread", "hosts"}),
        ([record(), record(started_at="later")], {"spread", "again"}),
        ([record(seed=0), record(seed=1, jobs_on_device=2)], {"spread", "left out"}),
        ([record(jobs_on_machine=2)], {"one"}),
    ],
)
def test_the_notes_say_what_the_numbers_do_not(
    rows: list[dict[str, Any]], expected: set[str]
) -> None:
    assert {name for name, note in NOTES.items() if note in build(frame(rows)).notes} == expected
    assert len(build(frame(rows)).notes) == len(expected)


def test_a_torn_line_that_was_left_out_is_said() -> None:
    records = frame([record()])
    records.attrs["torn"] = ["results.csv"]
    assert "a torn last line of results.csv was left out" in build(records).notes


def test_failed_jobs_are_counted_and_listed_with_their_reasons() -> None:
    rows = [record(), failed(model="cnn"), failed("oom", "out of memory", model="cnn", seed=1)]
    assert failure_lines(frame(rows)) == [
        "2 of 3 jobs failed (1 diverged, 1 oom):",
        "cnn · adam · seed 0: diverged: the loss is nan",
        "cnn · adam · seed 1: oom: out of memory",
    ]
    assert build(frame(rows)).failures == tuple(failure_lines(frame(rows)))


def test_many_failures_are_counted_rather_than_listed() -> None:
    lines = failure_lines(frame([failed(seed=seed) for seed in range(23)]))
    assert len(lines) == 22
    assert (lines[0], lines[-1]) == ("23 of 23 jobs failed (23 diverged):", "and 3 more")


# How each format says it.


def test_an_unknown_format_is_answered_with_its_neighbours() -> None:
    assert [check_format(name) for name in FORMATS] == list(FORMATS)
    with pytest.raises(UsageError, match="did you mean markdown"):
        check_format("markdow")


def simple_table(*names: str, failures: Sequence[str] = ()) -> Table:
    rows = tuple((name, f"{number}.0") for number, name in enumerate(names))
    return Table("caption", ("name", "value (s)"), (False, True), rows, ("note",), tuple(failures))


def test_elsewhere_than_on_a_terminal_nothing_is_coloured_wrapped_or_cut() -> None:
    long = "x" * 300
    lines = printed(simple_table(long, "y", failures=["1 failed:", long]), width=80).splitlines()
    assert [line.rstrip() for line in lines] == [
        "caption",
        "",
        " name" + " " * 299 + "value (s)",
        " " + "─" * 312,
        f" {long}         0.0",
        " y" + " " * 308 + "1.0",
        "",
        "note",
        "1 failed:",
        f"  {long}",
    ]


def test_a_console_keeps_its_width() -> None:
    console = Console(file=io.StringIO(), width=80)
    print_rich(simple_table("x" * 300), console)
    assert console.width == 80


def test_rich_takes_no_label_for_markup() -> None:
    text = printed(simple_table("sgd[lr=0.1]", "[red]x[/red]", ":smile:", "[/]"))
    for label in ("sgd[lr=0.1]", "[red]x[/red]", ":smile:", "[/]"):
        assert label in text


def test_a_terminal_is_coloured() -> None:
    assert "\x1b[" in printed(simple_table("a"), force_terminal=True, width=80)


def plain(text: str) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]


def test_a_table_looks_the_same_on_a_terminal_that_is_wide_enough() -> None:
    table = build(frame(GRID))
    assert plain(printed(table, force_terminal=True, width=150)) == plain(printed(table))


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (40, ["n", "failed", "parameters", "images/s", "train (s)", "wall (s)"]),
        (60, ["parameters", "images/s", "train (s)", "wall (s)"]),
        (80, ["train (s)", "wall (s)"]),
        (100, ["wall (s)"]),
        (110, []),
    ],
)
def test_a_narrow_terminal_keeps_the_names_and_says_what_it_leaves_out(
    width: int, left_out: list[str]
) -> None:
    table = build(frame([*GRID, failed(model="a-model-with-a-long-name")]))
    text = plain(printed(table, force_terminal=True, width=width))
    assert max(map(len, text)) <= width
    rows = [line.split() for line in text]
    assert ["fcn", "adam", "96.10", "±", "0.10"] in [row[:5] for row in rows]
    said = re.search(r"too narrow for (.*): widen", " ".join(text))
    assert (said[1].split(", ") if said else []) == left_out
    (row,) = [row for row in rows if row[:2] == ["fcn", "adam"]]
    numbers = " ".join(row).replace(" ± ", "±").split()
    assert len(numbers) == len(table.headings) - len(left_out)


class Cells(HTMLParser):
    """Collects the texts of all cells, and complains about tags that do not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data


def parse_html(text: str) -> dict[str, list[str]]:
    parser = Cells()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return {tag: [one_line(each) for each in texts] for tag, texts in parser.texts.items()}


def one_line(text: str) -> str:
    """What is left of a text in a format for people: printable, and without runs of spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(one_line)
HARD = "".join(chr(code) for code in range(32, 127)) + " a|b\\| <b>&amp; ~^ --- ‖\n\x1b[31m\u2028"


@given(TEXTS)
@example(HARD)
def test_html_carries_any_text(text: str) -> None:
    parsed = parse_html(render(simple_table(text, failures=["1 failed:", text]), "html"))
    assert parsed["td"] == [one_line(text), "0.0"]
    assert parsed["th"] == ["name", "value (s)"]
    assert parsed["caption"] == ["caption"]
    assert parsed["p"] == ["note", "1 failed:"]
    assert parsed["li"] == [one_line(text)]


@given(TEXTS)
@example(HARD)
@example("a_b __init__ _x_ *y* `z` ~~s~~ [a](b) [a][b] ![i](j) <http://x.y> &lt; 1. 2")
@example("- x")
@example("1. x")
@example("# x")
@example("===")
def test_markdown_carries_any_text(text: str) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    source = render(simple_table(text, failures=["1 failed:", f"x: {text}"]), "markdown")
    parsed = parse_html(re.sub(r"<br ?/>", "", reader.render(source)))
    assert parsed["td"] == [one_line(text), "0.0"]
    assert parsed["th"] == ["name", "value (s)"]
    assert parsed["p"] == ["caption", "note", "1 failed:"]
    assert parsed["li"] == [f"x: {one_line(text)}"]
    assert set(parsed) == {"table", "thead", "tbody", "tr", "th", "td", "p", "ul", "li"}


@given(TEXTS)
@example("- x")
@example("12) x")
@example("---")
def test_a_markdown_note_stays_a_paragraph_whatever_it_begins_with(text: str) -> None:
    table = Table(text, ("name",), (False,), (("x",),))
    parsed = parse_html(MarkdownIt("commonmark").enable("table").render(render(table, "markdown")))
    assert parsed["p"] == [one_line(text)]


def test_markdown_leaves_a_selection_readable() -> None:
    assert "sgd[lr=0.1,weight_decay=0.01]" in render(
        simple_table("sgd[lr=0.1,weight_decay=0.01]"), "markdown"
    )


COMMANDS = {
    **{f"\\{char}": char for char in "&%$#_{}"},
    **{f"{{{char}}}": char for char in "[]*"},
    "-{}": "-",
    r"$\pm$": "±",
    r"$\cdot$": "·",
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textasciigrave{}": "`",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textendash{}": "–",
}


def read_latex(source: str) -> str:
    """Return the text that `source` sets; fails at a character that LaTeX would act upon."""
    known = "|".join(map(re.escape, sorted(COMMANDS, key=len, reverse=True)))
    text, rest = "", source
    while rest:
        match = re.match(known, rest)
        token = match[0] if match else rest[0]
        assert match or token not in "\\&%$#_{}[]*~^<>|`", rest
        assert not rest.startswith("--")
        text += COMMANDS.get(token, token)
        rest = rest[len(token) :]
    return text


@given(TEXTS)
@example(HARD)
@example("---- – · ±")
def test_latex_carries_any_text(text: str) -> None:
    source = render(simple_table(text, failures=["1 failed:", text]), "latex")
    body = re.search(r"\\midrule\n(.*) \\\\\n\\bottomrule", source)
    assert body
    left, right = re.split(r"(?<!\\)&", body[1])
    assert (read_latex(left.strip()), right.strip()) == (one_line(text), "0.0")
    assert read_latex(source.splitlines()[-2].removeprefix(r"\par\footnotesize ")) == one_line(text)


def test_latex_is_a_table_for_booktabs() -> None:
    assert render(simple_table("fcn", "cnn"), "latex").splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{caption}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" name   &   value (s) \\",
        r"\midrule",
        r" fcn    &         0.0 \\",
        r" cnn    &         1.0 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\footnotesize note",
        r"\end{table}",
    ]


def test_markdown_is_a_table_for_github() -> None:
    assert render(simple_table("fcn", "cnn", failures=["1 failed:", "x"]), "markdown") == (
        "caption\n\n"
        "| name   |   value (s) |\n"
        "|:-------|------------:|\n"
        "| fcn    |         0.0 |\n"
        "| cnn    |         1.0 |\n\n"
        "note\n\n"
        "1 failed:\n\n"
        "- x\n"
    )


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1),
    st.floats(0, 1),
    st.floats(1e-9, 1e9),
)
def test_csv_and_json_carry_any_text_and_every_digit(
    text: str, accuracy: float, loss: float
) -> None:
    records = frame([record(model=text, test_accuracy=accuracy, test_loss=loss)])
    (row,) = csv.DictReader(io.StringIO(export(records, "csv"), newline=""))
    assert (row["model"], row["n"], row["failed"]) == (text, "1", "0")
    assert (float(row["test_accuracy_mean"]), float(row["test_loss_mean"])) == (accuracy, loss)
    assert row["test_accuracy_std"] == ""
    (row,) = json.loads(export(records, "json"))
    assert (row["model"], row["test_accuracy_mean"], row["test_loss_mean"]) == (
        text,
        accuracy,
        loss,
    )
    assert (row["n"], row["test_accuracy_std"], row["timed_shared"]) == (1, None, False)


def test_json_says_null_where_it_has_no_word_for_a_number() -> None:
    (row,) = json.loads(export(frame([record(test_loss=math.inf)]), "json"))
    assert row["test_loss_mean"] is None


def test_an_export_has_all_axes_and_the_chosen_statistics() -> None:
    columns = ["test_loss", "wall_seconds_std", "machine", "n"]
    (row,) = json.loads(export(frame([record()]), "json", columns=columns, by=["model"]))
    assert row == {
        "model": "fcn",
        "machine": "box",
        "n": 1,
        "failed": 0,
        "timed_shared": False,
        "test_loss_mean": None,
        "test_loss_std": None,
        "test_loss_n": 0,
        "wall_seconds_std": None,
    }


@pytest.mark.parametrize("fmt", ["rich", "markdown", "latex", "html"])
def test_a_table_without_rows_has_its_headings(fmt: str) -> None:
    table = Table("", ("name", "value (s)"), (False, True), ())
    text = printed(table) if fmt == "rich" else render(table, fmt)
    assert "name" in text
    assert "value (s)" in text
