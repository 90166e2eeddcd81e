"""Are the arguments that a network is given ones that it has, and of sizes that make sense?"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from sb3_dream.config_values import unknown_names


def check_network_arguments(name: str, arguments: Mapping[str, Any], kind: type) -> None:
    """
    :param name: of the dictionary, for the message
    :param arguments: what the user gives
    :param kind: the class that takes them, by keyword; classes of other packages judge values for themselves
    :raises ValueError: for an unknown name, or a value of another type or out of bounds, with what is allowed
    """
    parameters = inspect.signature(kind).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    owner = f"{name} (of {kind.__name__})"
    unknown = [key for key in arguments if key not in known]
    if unknown and not any(each.kind is each.VAR_KEYWORD for each in parameters):
        raise ValueError(unknown_names(unknown, known, owner))
    if not kind.__module__.startswith("sb3_dream."):
        return
    hints = get_type_hints(vars(kind)["__init__"])
    for key, value in arguments.items():
        hint = hints[key]
        options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if not any(_fits(value, option) for option in options):
            expected = " or ".join(dict.fromkeys(_expected(option) for option in options))
            raise ValueError(f"{owner}: {key} must be {expected}, not {value!r}")


def _fits(value: Any, option: Any) -> bool:
    if option is type(None):
        return value is None
    if option is bool:
        return isinstance(value, bool)
    if option is int:
        return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= 10**6
    if option is float:
        return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf
    if get_origin(option) is tuple:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(part, int) for part in value)
    return value in get_args(option) if get_args(option) else isinstance(value, option)


def _expected(option: Any) -> str:
    if option is type(None):
        return "None"
    if option is int:
        return "a whole number from 1 to 1000000"
    if option is float:
        return "a finite number of at least 0"
    if get_origin(option) is tuple:
        return "a list of whole numbers from 1 to 1000000"
    return " or ".join(map(repr, get_args(option))) or ("True or False" if option is bool else f"a {option.__name__}")
