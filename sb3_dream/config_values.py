"""Values of a configuration: of the type that a field announces, and in a form that a file can hold."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, Literal, Union, get_args, get_origin


def checked(name: str, value: Any, hint: Any) -> Any:
    """
    :param name: of the field, for the message
    :param value: what was assigned to it
    :param hint: the field's type
    :return: the value, with numbers and sequences in the form that the type asks for
    :raises ValueError: for a value of another type
    """
    for option in get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,):
        accepted, converted = _converted(value, option)
        if accepted:
            return converted
    kind = hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint).replace("typing.", "")
    raise ValueError(f"{name} must be of type {kind}, not {value!r}")


def as_number(value: Any, kind: type) -> tuple[bool, Any]:
    """
    :param value: anything; strings count, because YAML takes "1e-3", without a dot, for one
    :param kind: ``int`` or ``float``
    :return: whether it is such a number, and the number
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False, value
    if isinstance(value, bool) or not isinstance(value, Real):
        return False, value
    if kind is float:
        return True, float(value)
    whole = float(value).is_integer()
    return whole, int(float(value)) if whole else value


def plain(name: str, value: Any) -> Any:
    """
    :param name: of the field, for the message
    :return: the same as numbers, strings, lists and dictionaries
    :raises ValueError: for anything else
    """
    if isinstance(value, Mapping):
        return {key: plain(f"{name}.{key}", part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [plain(name, part) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{name}={value!r} cannot be written to a file: only numbers, strings, lists and mappings can")


def as_settings(name: str, settings: Any) -> dict[str, Any]:
    """
    :param name: of an argument that takes further arguments
    :param settings: a dictionary of those, or None
    :return: a dictionary of its own
    :raises ValueError: for anything else
    """
    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise ValueError(f"{name} must be a dictionary of named arguments, or None, not {settings!r}")
    return dict(settings)


def unknown_names(names: Iterable[str], known: Iterable[str], owner: str) -> str:
    """
    :param names: that nothing knows
    :param known: what is known
    :param owner: of the names
    :return: a message that says which were probably meant, and what is allowed
    """
    known, told = list(known), []
    for name in names:
        matches = difflib.get_close_matches(str(name), known, n=1)
        told.append(f"{name!r} (did you mean {matches[0]!r}?)" if matches else repr(name))
    return f"{owner} does not know {', '.join(told)}; allowed: {', '.join(known)}"


def _converted(value: Any, option: Any) -> tuple[bool, Any]:
    """Whether a value is of a type, and the value as that type has it."""
    origin = get_origin(option)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(option), value
    if origin is type:
        return isinstance(value, type) and issubclass(value, get_args(option)[0]), value
    if origin is tuple:
        kinds = get_args(option)
        if not isinstance(value, (list, tuple)) or len(value) != len(kinds):
            return False, value
        parts = [_converted(part, kind) for part, kind in zip(value, kinds, strict=True)]
        return all(accepted for accepted, _ in parts), tuple(part for _, part in parts)
    if origin is dict:
        return isinstance(value, Mapping) and all(isinstance(key, str) for key in value), _tuples(value)
    if option in (int, float):
        return as_number(value, option)
    return isinstance(value, option), value


def _tuples(value: Any) -> Any:
    """Lists as tuples, all the way down: so that a config and what comes back from its file are equal."""
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(part) for part in value)
    return {key: _tuples(part) for key, part in value.items()} if isinstance(value, Mapping) else value
