"""Parameter values as text: parsed by the annotated type, printed back so that they parse again."""

from __future__ import annotations

import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Union

from mnistbench.errors import SelectionError

Value = bool | int | float | str | None | tuple[Any, ...]

OPENING, CLOSING = "[(", "])"
_ESCAPED = set(" ,=[]()\"'\\")


class _Unfit(Exception):  # noqa: N818 - a signal between the functions below, never an error
    """The text is no value of this type."""


def split_outside(text: str, separator: str) -> Iterator[str]:
    """Split `text` at the separators that stand outside brackets and double quotes.

    Raises `SelectionError` when brackets or quotes do not pair.
    """
    depth, quoted, escaped, start = 0, False, False, 0
    for position, character in enumerate(text):
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth -= 1
            if depth < 0:
                raise SelectionError(f"{character!r} without its opening bracket in {text!r}")
        elif character == separator and not depth:
            yield text[start:position].strip()
            start = position + 1
    if quoted:
        raise SelectionError(f"a double quote is not closed in {text!r}")
    if depth:
        raise SelectionError(f"a bracket is not closed in {text!r}")
    yield text[start:].strip()


def parse_value(text: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Value:
    """Return the value that `text` stands for in a parameter annotated with `annotation`.

    Where there is no annotation the type of the default is taken. Raises `SelectionError` with
    the type that is wanted.
    """
    if annotation is inspect.Parameter.empty:
        known = default is not inspect.Parameter.empty and default is not None
        annotation = type(default) if known else Any
        if annotation is int:
            annotation = int | float  # `momentum=0` says nothing against 0.9
        if annotation in (tuple, list):
            kinds = {type(item) for item in default}
            annotation = types.GenericAlias(tuple, (kinds.pop() if len(kinds) == 1 else Any, ...))
    try:
        return _parse(text, annotation)
    except _Unfit:
        raise SelectionError(f"takes {type_name(annotation)}, not {text!r}") from None


def is_value(value: object) -> bool:
    """Return whether `value` is one that text can give."""
    if isinstance(value, tuple):
        return all(is_value(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def format_value(value: Value) -> str:
    """Return the text that `parse_value` reads back as `value`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "x".join(_format_item(item) for item in value) if value else "()"
    if isinstance(value, str):
        # Quoted where the bare word could be read as something else than this string.
        plain = value and not set(value) & _ESCAPED and value.isprintable()
        return value if plain and _guess(value) == value else json.dumps(value)
    return repr(value)


def type_name(annotation: Any) -> str:
    """Return the words for a type in messages and listings, such as `a float`."""
    if annotation is Any or annotation is inspect.Parameter.empty:
        return "any value"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(format_value(item) for item in arguments)}"
    if origin in (Union, types.UnionType):
        readable = [type_name(item) for item in arguments if _readable(item)]
        return " or ".join(dict.fromkeys(readable)) or "no value that text can give"
    items = _items_of(annotation)
    if items is not None:
        names = [type_name(item).removeprefix("an ").removeprefix("a ") for item in items]
        if not items or (items[-1] is ... and items[0] is Any):
            return "values joined by x, as in 256x128"
        if items[-1] is ...:
            return f"{names[0]}s joined by x, as in 256x128"
        return f"{len(items)} values joined by x ({', '.join(dict.fromkeys(names))})"
    words = {bool: "true or false", int: "an int", float: "a float", str: "a word"}
    if annotation in (None, type(None)):
        return "none"
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _format_item(item: Value) -> str:
    text = format_value(item)
    return json.dumps(item) if text == item and "x" in text else text


def _items_of(annotation: Any) -> tuple[Any, ...] | None:
    """Return the types of the items of a tuple type, or None; a list is a tuple of any length."""
    origin = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    if origin is tuple:
        return arguments
    if origin in (list, Sequence):
        return (*arguments, ...) if arguments else ()
    return None


def _readable(annotation: Any) -> bool:
    """True for the types that text can stand for (not, say, a Tensor in `float | Tensor`)."""
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return any(_readable(item) for item in typing.get_args(annotation))
    known = (bool, int, float, str, None, type(None), Any, inspect.Parameter.empty)
    return annotation in known or origin is Literal or _items_of(annotation) is not None


def _parse(text: str, annotation: Any) -> Value:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return _guess(text)
    if annotation in (None, type(None)):
        return _none(text)
    if origin is Literal:
        # As labels print it, else as Python does, else quoted.
        for form in (format_value, str, json.dumps):
            for choice in arguments:
                if text == form(choice):
                    return typing.cast(Value, choice)
        raise _Unfit
    if origin in (Union, types.UnionType):
        return _parse_union(text, arguments)
    items = _items_of(annotation)
    if items is not None:
        return _parse_tuple(text, items)
    parsers: dict[Any, Callable[[str], Value]] = {
        bool: _bool,
        int: _int,
        float: _float,
        str: _str,
    }
    parser = parsers.get(annotation)
    if parser is None:
        raise _Unfit
    return parser(text)


def _parse_union(text: str, members: tuple[Any, ...]) -> Value:
    # From the narrowest to the widest: every text is a string, every int is a float.
    order = [type(None), bool, int, float]
    ranked = sorted(
        members, key=lambda item: (item is str, order.index(item) if item in order else 4)
    )
    for member in ranked:
        try:
            return _parse(text, member)
        except _Unfit:
            continue
    raise _Unfit


def _parse_tuple(text: str, arguments: tuple[Any, ...]) -> Value:
    items = [] if text == "()" else list(split_outside(text, "x"))
    if not arguments:
        return tuple(_guess(item) for item in items)
    if len(arguments) == 2 and arguments[1] is ...:
        return tuple(_parse(item, arguments[0]) for item in items)
    if len(items) != len(arguments):
        raise _Unfit
    return tuple(_parse(item, wanted) for item, wanted in zip(items, arguments, strict=True))


def _guess(text: str) -> Value:
    for parser in (_none, _bool, _int, _float):
        try:
            return parser(text)
        except _Unfit:
            continue
    return _str(text)


def _none(text: str) -> Value:
    if text.lower() != "none":
        raise _Unfit
    return None


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise _Unfit
    return text.lower() == "true"


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _Unfit from None


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _Unfit from None
    if math.isnan(value):
        raise _Unfit
    return value


def _str(text: str) -> str:
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            raise _Unfit from None
    if not text:
        raise _Unfit
    return text
