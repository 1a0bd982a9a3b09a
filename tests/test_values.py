"""Parameter values as text: parsed by the annotated type, and printed back."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnistbench.errors import SelectionError
from mnistbench.values import format_value, is_value, parse_value, split_outside, type_name

EMPTY = inspect.Parameter.empty


class Tensor:
    """Stands for a type that no text can give."""


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("0.1", float, 0.1),
        ("1e-3", float, 0.001),
        ("3", float, 3.0),
        ("-inf", float, -math.inf),
        ("3", int, 3),
        ("-3", int, -3),
        ("true", bool, True),
        ("False", bool, False),
        ("relu", str, "relu"),
        ("3", str, "3"),
        ("none", str, "none"),
        ('"a, b"', str, "a, b"),
        ('""', str, ""),
        ("None", None, None),
        # Unions: the narrowest member that the text fits.
        ("0.1", float | Tensor, 0.1),
        ("0.1", Union[float, Tensor], 0.1),  # noqa: UP007 - the spelling of many plugins
        ("none", float | None, None),
        ("0.5", Optional[float], 0.5),  # noqa: UP045
        ("3", int | float, 3),
        ("3", float | int, 3),
        ("3.0", int | float, 3.0),
        ("true", int | bool, True),
        ("1", bool | int, 1),
        ("relu", str | None, "relu"),
        ("none", str | None, None),
        ('"none"', str | None, "none"),
        ("5", str | int, 5),
        ('"5"', str | int, "5"),
        ("auto", Literal["auto"] | float, "auto"),
        ("8x8", int | tuple[int, int], (8, 8)),
        ("8", int | tuple[int, int], 8),
        ("8x8", str | tuple[int, int], (8, 8)),
        ("8", str | tuple[int, int], "8"),
        # Literals.
        ("cos", Literal["cos", "linear"], "cos"),
        ('"cos"', Literal["cos", "linear"], "cos"),
        ("2", Literal[1, 2], 2),
        ("True", Literal[True], True),
        ("none", Literal["none", None], None),
        ('"none"', Literal["none", None], "none"),
        ('"1"', Literal[1, "1"], "1"),
        # Tuples and lists.
        ("256x128", tuple[int, ...], (256, 128)),
        ("256 x 128", tuple[int, ...], (256, 128)),
        ("256", tuple[int, ...], (256,)),
        ("()", tuple[int, ...], ()),
        ("0.9x0.999", tuple[float, float], (0.9, 0.999)),
        ("1x2", tuple[float, float], (1.0, 2.0)),
        ("3xrelu", tuple[int, str], (3, "relu")),
        ('"x"xyx"a,b"', tuple[str, ...], ("x", "y", "a,b")),
        ("nonex2", tuple[int | None, ...], (None, 2)),
        ("1xtruexrelu", tuple, (1, True, "relu")),
        ("8x8", list[int], (8, 8)),
        ("8x0.5", list, (8, 0.5)),
        ("8x8", Sequence[int], (8, 8)),
        # Any value: the narrowest type that the text fits.
        ("none", Any, None),
        ("true", Any, True),
        ("3", Any, 3),
        ("0.5", Any, 0.5),
        ("relu", Any, "relu"),
        ('"3"', Any, "3"),
    ],
)
def test_a_text_is_read_by_the_annotated_type(text: str, annotation: Any, value: object) -> None:
    # By repr: 1, 1.0 and True are equal, and differ here.
    assert repr(parse_value(text, annotation)) == repr(value)


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("2", 1, 2),
        ("2", 0.1, 2.0),
        ("false", True, False),
        ("2", "relu", "2"),
        ("64x32", (128,), (64, 32)),
        ("64x32", [128], (64, 32)),
        ("0.5x2", (1.0, 1.0), (0.5, 2.0)),
        ("0.5x2", (1, 0.5), (0.5, 2)),
        ("64", (), (64,)),
        ("0.5", None, 0.5),
        ("none", None, None),
        ("relu", EMPTY, "relu"),
    ],
)
def test_without_an_annotation_the_type_of_the_default_counts(
    text: str, default: object, value: object
) -> None:
    assert repr(parse_value(text, EMPTY, default)) == repr(value)


def test_the_annotation_wins_over_the_type_of_the_default() -> None:
    assert repr(parse_value("2", float, 1)) == "2.0"


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        ("fast", float, "takes a float, not 'fast'"),
        ("nan", float, "takes a float, not 'nan'"),
        ("1.5", int, "takes an int, not '1.5'"),
        ("yes", bool, "takes true or false, not 'yes'"),
        ("1", bool, "takes true or false, not '1'"),
        ("", str, "takes a word, not ''"),
        ('"a" b"', str, 'takes a word, not \'"a" b"\''),
        ("0", None, "takes none, not '0'"),
        ("x", float | None, "takes a float or none, not 'x'"),
        ("x", float | Tensor, "takes a float, not 'x'"),
        ("3", Tensor, "takes Tensor, not '3'"),
        ("3", Tensor | None, "takes none, not '3'"),
        ("sin", Literal["cos", "linear"], "takes one of cos, linear, not 'sin'"),
        ("0.9", tuple[float, float], "takes 2 values joined by x (float), not '0.9'"),
        ("1x2x3", tuple[int, str], "takes 2 values joined by x (int, word), not '1x2x3'"),
        ("64xa", tuple[int, ...], "takes ints joined by x, as in 256x128, not '64xa'"),
        ("64x", tuple[int, ...], "takes ints joined by x, as in 256x128, not '64x'"),
        ("a", list[int], "takes ints joined by x, as in 256x128, not 'a'"),
        ('"a', tuple[str, ...], "a double quote is not closed in '\"a'"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_in_one_line_that_names_the_type(
    text: str, annotation: Any, message: str
) -> None:
    with pytest.raises(SelectionError) as caught:
        parse_value(text, annotation)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.001, "0.001"),
        (1e-8, "1e-08"),
        ("relu", "relu"),
        ("a-b_c.d/e", "a-b_c.d/e"),
        ("None", '"None"'),
        ("true", '"true"'),
        ("1e3", '"1e3"'),
        ("", '""'),
        ("a b", '"a b"'),
        ("hex", "hex"),
        ((256, 128), "256x128"),
        ((256,), "256"),
        ((), "()"),
        (("hex", "a"), '"hex"xa'),
        ((True, None, 0.5), "truexnonex0.5"),
    ],
)
def test_a_value_prints_as_the_shortest_text_that_stands_for_it(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Any, "any value"),
        (EMPTY, "any value"),
        (tuple, "values joined by x, as in 256x128"),
        (tuple[Any, ...], "values joined by x, as in 256x128"),
        (list[float], "floats joined by x, as in 256x128"),
        (int | str | None, "an int or a word or none"),
        (Tensor | type[Tensor], "no value that text can give"),
        (Literal["a", 1, None], "one of a, 1, none"),
    ],
)
def test_a_type_has_a_name_in_words(annotation: Any, words: str) -> None:
    assert type_name(annotation) == words


WORDS = st.one_of(
    st.text(),
    st.text(alphabet="ax \"'\\[](),=*?\n\t\u00a0\u2028"),
    st.sampled_from(["none", "NONE", "true", "1", "1e3", "inf", "nan", "x", "()", "[]", "all"]),
)
FLOATS = st.floats(allow_nan=False)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), FLOATS, WORDS)
Scalar = bool | int | float | str | None

TYPED_VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(),
    float: FLOATS,
    str: WORDS,
    str | None: WORDS | st.none(),
    Scalar: SCALARS,
    Any: SCALARS,
    float | Tensor: FLOATS,
    Literal["none", None, "1", 1, "a,b"]: st.sampled_from(["none", None, "1", 1, "a,b"]),
    tuple[int, ...]: st.lists(st.integers()).map(tuple),
    tuple[str, ...]: st.lists(WORDS).map(tuple),
    tuple[Scalar, ...]: st.lists(SCALARS).map(tuple),
    tuple[float, str, bool]: st.tuples(FLOATS, WORDS, st.booleans()),
    tuple: st.lists(SCALARS).map(tuple),
    list[str]: st.lists(WORDS).map(tuple),
}


@pytest.mark.parametrize("annotation", TYPED_VALUES, ids=str)
@given(data=st.data())
def test_a_printed_value_reads_back_as_itself(annotation: Any, data: st.DataObject) -> None:
    value = data.draw(TYPED_VALUES[annotation])
    text = format_value(value)
    assert repr(parse_value(text, annotation)) == repr(value)
    # And nothing in it ends a parameter, a list or a selection too early.
    assert list(split_outside(text, ",")) == [text]


@given(value=WORDS)
@example(value='"')
@example(value="\\")
def test_a_printed_string_has_no_bare_bracket_equals_sign_or_space(value: str) -> None:
    text = format_value(value)
    assert text.startswith('"') or not set(text) & set("[]()=, \t\n")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", [""]),
        ("a", ["a"]),
        (" a , b ", ["a", "b"]),
        ("a,,b,", ["a", "", "b", ""]),
        ("a[b,c],d", ["a[b,c]", "d"]),
        ("a[b=[c,d],e],f", ["a[b=[c,d],e]", "f"]),
        ("(a,b),c", ["(a,b)", "c"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ('"]",c', ['"]"', "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        (r'"a\\",b', [r'"a\\"', "b"]),
    ],
)
def test_a_text_is_split_outside_brackets_and_quotes_only(text: str, parts: list[str]) -> None:
    assert list(split_outside(text, ",")) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a[b", "a bracket is not closed in 'a[b'"),
        ("a]b", "']' without its opening bracket in 'a]b'"),
        ('a"b', "a double quote is not closed in 'a\"b'"),
    ],
)
def test_brackets_and_quotes_that_do_not_pair_are_refused(text: str, message: str) -> None:
    with pytest.raises(SelectionError) as caught:
        list(split_outside(text, ","))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, True),
        (1, True),
        ("a", True),
        ((1, (2.0, "a")), True),
        ([1], False),
        (Tensor(), False),
        ((1, Tensor()), False),
    ],
)
def test_only_what_text_can_give_is_a_value(value: object, *, expected: bool) -> None:
    assert is_value(value) is expected
