"""Settings as JSON text. What has no plain form is pickled inside, and read only if the text is trusted.

Unpickling can run any code, so pickles are refused by default, with what they contain.
"""

from __future__ import annotations

import base64
import json
import os
import pickletools
from collections.abc import Iterable
from typing import Any

import cloudpickle

from sb3_dream.plain_values import NotPlain, decode, encode

TRUST_VARIABLE = "SB3_DREAM_TRUST_MODELS"
_PICKLED = ":serialized:"  # Stable-Baselines3's own mark


def write_settings(settings: dict[str, Any]) -> str:
    """
    :param settings: by name
    :return: JSON
    """
    return json.dumps({name: _stored(value) for name, value in settings.items()})


def read_settings(
    text: str | bytes,
    source: str,
    custom_objects: dict[str, Any] | None = None,
    trust: bool | None = None,
    only: Iterable[str] | None = None,
) -> dict[str, Any]:
    """
    :param text: what :func:`write_settings` returned
    :param source: where it comes from, for messages
    :param custom_objects: values by name, which take the place of those in the text
    :param trust: unpickle what is pickled, which can run any code; None for what the environment variable
        ``SB3_DREAM_TRUST_MODELS`` says (``1`` to trust)
    :param only: names of the settings to read; None for all
    :return: settings by name
    :raises ValueError: if it is no such text, damaged, or would have to be trusted
    """
    if custom_objects is not None and not isinstance(custom_objects, dict):
        raise ValueError(f"custom_objects must be a dict or None, not {custom_objects!r}")
    try:
        stored = dict(json.loads(text))
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"the settings in {source} are damaged: {told(error)}") from error
    stored = {key: stored[key] for key in (stored if only is None else only) if key in stored}
    given = {key: value for key, value in (custom_objects or {}).items() if key in stored}
    pickled = {key: item for key, item in stored.items() if _is_pickled(item) and key not in given}
    if pickled and not trusted(trust):
        listed = _legible("; ".join(f"{key} ({_contents(item)})" for key, item in sorted(pickled.items())))
        raise ValueError(
            f"{source} holds pickled objects, and reading those can run any code: {listed}. It is a model of another "
            "algorithm, or brings code of its own. If you know where the file comes from, and only then, pass "
            f"trust=True, or set the environment variable {TRUST_VARIABLE}=1; or give other values with custom_objects"
        )
    return {key: given[key] if key in given else _read(item, f"{source}: {key}") for key, item in stored.items()}


def trusted(trust: bool | None) -> bool:
    """
    :param trust: what the caller says, or None
    :return: whether to read pickles: what the caller says, else what the environment variable does
    """
    return os.environ.get(TRUST_VARIABLE) == "1" if trust is None else trust


def told(error: Exception) -> str:
    """
    :param error: any exception
    :return: its kind and the beginning of its message, on one line
    """
    return f"{type(error).__name__}: {_legible(' '.join(str(error).split()))[:300]}"


def _legible(text: str, most: int = 2_000) -> str:
    """What a file says, without what would move the cursor of a terminal, and no longer than one reads."""
    shown = "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text[:most])
    return shown if len(text) <= most else f"{shown} ..."


def _stored(value: Any) -> Any:
    try:
        return encode(value)
    except NotPlain:
        return {":type:": str(type(value)), _PICKLED: base64.b64encode(cloudpickle.dumps(value)).decode()}


def _is_pickled(item: Any) -> bool:
    return isinstance(item, dict) and _PICKLED in item


def _read(item: Any, name: str) -> Any:
    try:
        return cloudpickle.loads(base64.b64decode(item[_PICKLED])) if _is_pickled(item) else decode(item)
    except Exception as error:  # whatever reading damaged or edited settings may raise
        raise ValueError(f"{name} cannot be read: {told(error)}") from error


def _contents(item: dict[str, Any]) -> str:
    """What a pickle would import, found without unpickling it."""
    names: list[str] = []
    texts: list[Any] = []
    memo: list[Any] = []
    try:
        for opcode, argument, _ in pickletools.genops(base64.b64decode(item[_PICKLED])):
            if opcode.name == "GLOBAL":
                names.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                names.append(".".join(map(str, texts[-2:])))
            elif opcode.name == "MEMOIZE":
                memo.append(texts[-1] if texts else None)
            elif opcode.name in ("BINGET", "LONG_BINGET"):
                texts.append(memo[int(str(argument))])
            elif "UNICODE" in opcode.name:
                texts.append(argument)
    except Exception as error:  # whatever looking into a damaged pickle may raise
        return f"damaged: {told(error)}"
    return ", ".join(dict.fromkeys(names)) or "plain values"
