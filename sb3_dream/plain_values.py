"""Values as JSON and back, for files that run no code when they are read.

Plain values, arrays, spaces, random generators, schedules and a closed list of classes are written; reading builds
nothing else and calls nothing that a file names. Unlike pickle, a file can therefore be read before it is trusted.
What JSON has no form for is an object with one key between colons: ``{":tuple:": [1, 2]}``.
"""

from __future__ import annotations

import base64
import io
import math
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from operator import attrgetter
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

_SB3 = "stable_baselines3.common"

_CLASSES = {
    "DreamPolicy": "sb3_dream.policies",
    "CnnPolicy": "sb3_dream.policies",
    "MultiInputPolicy": "sb3_dream.policies",
    "CompactWorldModel": "sb3_dream.world_models.compact",
    "RSSMWorldModel": "sb3_dream.world_models.rssm",
    "RecurrentWorldModel": "sb3_dream.world_models.recurrent",
    "MuonAdam": "sb3_dream.nn.muon",
    "SequenceReplayBuffer": "sb3_dream.replay",
}
"""Classes that a file may name, and their modules."""

_OBJECTS = {
    "ConstantSchedule": f"{_SB3}.utils",
    "FloatSchedule": f"{_SB3}.utils",
    "LinearSchedule": f"{_SB3}.utils",
    "NormalActionNoise": f"{_SB3}.noise",
    "OrnsteinUhlenbeckActionNoise": f"{_SB3}.noise",
    "Pause": "sb3_dream.resume",
    "Playing": "sb3_dream.resume",
    "RunningMeanStd": f"{_SB3}.running_mean_std",
    "SimpleLinearSchedule": "rl_zoo3.utils",
    "StackedObservations": f"{_SB3}.vec_env.stacked_observations",
    "VectorizedActionNoise": f"{_SB3}.noise",
}
"""Classes whose instances are no more than their attributes, and their modules."""

_NUMBERS = "biuf"  # kinds of NumPy's dtypes
_ENUMS = {"TrainFrequencyUnit": f"{_SB3}.type_aliases"}
_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class NotPlain(ValueError):
    """
    A value that has no plain form.

    :param value: the value
    :param place: where it is in a larger one, as in ``.a[0]``
    """

    def __init__(self, value: Any, place: str = "") -> None:
        kind = value if isinstance(value, type) or callable(value) else type(value)
        name = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"
        super().__init__(f"{place.lstrip('.')}: {name}" if place else name)
        self.value, self.place = value, place


def encode(value: Any) -> Any:
    """
    :param value: anything made of plain values, arrays, spaces, random generators and DREAM's own classes
    :return: what the ``json`` module writes
    :raises NotPlain: for anything else
    """
    return _encode(value, "")


def decode(item: Any) -> Any:
    """
    :param item: what :func:`encode` returned, or anything else that the ``json`` module reads
    :return: the value
    :raises ValueError: if it is nothing that ``encode`` returns
    """
    if isinstance(item, list):
        return [decode(part) for part in item]
    if not isinstance(item, dict):
        return item
    if len(item) == 1:
        ((tag, content),) = item.items()
        if tag.startswith(":"):
            if tag not in _DECODERS:
                raise ValueError(f"unknown kind of value {tag[:40]!r}")
            return _DECODERS[tag](content)
    return {key: decode(part) for key, part in item.items()}


# --------------------------------------------------------------------- writing


def _encode(value: Any, place: str) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {":float:": repr(value)}
    if kind is list:
        return _parts(value, place)
    if kind is dict and all(type(key) is str and not key.startswith(":") for key in value):
        return {key: _encode(part, f"{place}.{key}") for key, part in value.items()}
    for accepts, tag, content in _ENCODERS:
        if accepts(value):
            return {tag: content(value, place)}
    raise NotPlain(value, place)


def _parts(values: Any, place: str) -> list[Any]:
    return [_encode(part, f"{place}[{i}]") for i, part in enumerate(values)]


def _pairs(value: dict[Any, Any], place: str) -> list[Any]:
    return [[_encode(key, place), _encode(part, f"{place}[{key!r}]")] for key, part in value.items()]


def _array(value: np.ndarray, place: str) -> str:
    if value.dtype.hasobject:
        raise NotPlain(value, place)
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def _scalar(value: np.generic, place: str) -> list[Any]:
    return [value.dtype.str, _encode(value.item(), place)]


def _generator(value: np.random.Generator, place: str) -> dict[str, Any]:
    return _encode(value.bit_generator.state, place)


def _space(space: spaces.Space, place: str) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": type(space).__name__}
    if isinstance(space, spaces.Box):
        assert space.dtype is not None
        found |= {"low": _bound(space.low), "high": _bound(space.high), "shape": space.shape, "dtype": space.dtype.str}
        found |= {"below": _bound(space.bounded_below), "above": _bound(space.bounded_above)}
    elif isinstance(space, spaces.Discrete):
        assert space.dtype is not None
        found |= {"n": int(space.n), "start": int(space.start), "dtype": space.dtype.str}
    elif isinstance(space, spaces.MultiDiscrete):
        assert space.dtype is not None
        found |= {"nvec": space.nvec, "start": space.start, "dtype": space.dtype.str}
    elif isinstance(space, spaces.MultiBinary):
        found |= {"n": space.n}
    else:
        assert isinstance(space, spaces.Dict)
        found |= {"spaces": dict(space.spaces)}
    if space._np_random is not None:
        found["random"] = space._np_random
    return _encode(found, place)


def _bound(values: np.ndarray) -> Any:
    """One number where all are the same: bounds of pictures would make up most of a file."""
    return values.flat[0] if values.size and (values == values.flat[0]).all() else values


def _is_named(registry: dict[str, str]) -> Callable[[Any], bool]:
    return lambda value: registry.get(type(value).__name__) == type(value).__module__


def _is_class(value: Any) -> bool:
    return isinstance(value, type) and (_CLASSES.get(value.__name__) == value.__module__ or _is_torch_class(value))


def _is_torch_class(value: type) -> bool:
    return issubclass(value, th.optim.Optimizer) and getattr(th.optim, value.__name__, None) is value


def _class_name(value: type, place: str) -> str:
    return f"torch.optim.{value.__name__}" if _is_torch_class(value) else value.__name__


def _is_record(value: Any) -> bool:
    kind = type(value)
    return isinstance(value, tuple) and hasattr(kind, "_fields") and _record_class(kind.__module__, kind.__name__)


def _record_class(module: Any, name: Any) -> Any:
    """A named tuple's class out of a module that is loaded already: a file must not make anything be imported."""
    loaded = sys.modules.get(module)
    found = None if loaded is None else vars(loaded).get(name)  # not getattr(), which a module may answer by an import
    return found if isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields") else None


_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict)

_ENCODERS: list[tuple[Callable[[Any], Any], str, Callable[[Any, str], Any]]] = [
    (lambda v: type(v) is tuple, ":tuple:", _parts),
    (lambda v: type(v) is dict, ":dict:", _pairs),
    (lambda v: type(v) is OrderedDict, ":ordered:", _pairs),
    (lambda v: type(v) is set, ":set:", _parts),
    (lambda v: type(v) is frozenset, ":frozenset:", _parts),
    (lambda v: type(v) is deque, ":deque:", lambda v, place: [_parts(v, place), v.maxlen]),
    (lambda v: type(v) is bytes, ":bytes:", lambda v, place: base64.b64encode(v).decode()),
    (lambda v: type(v) is np.ndarray, ":array:", _array),
    (lambda v: isinstance(v, np.generic) and v.dtype.kind in _NUMBERS, ":scalar:", _scalar),
    (lambda v: isinstance(v, np.dtype) and v.kind in _NUMBERS, ":dtype:", lambda v, place: v.str),
    (
        lambda v: isinstance(v, type) and issubclass(v, np.generic) and np.dtype(v).kind in _NUMBERS,
        ":scalar type:",
        lambda v, place: np.dtype(v).str,
    ),
    (
        lambda v: type(v) is np.random.Generator and type(v.bit_generator).__name__ in _GENERATORS,
        ":generator:",
        _generator,
    ),
    (lambda v: type(v) in _SPACES, ":space:", _space),
    (_is_class, ":class:", _class_name),
    (_is_named(_ENUMS), ":enum:", lambda v, place: [type(v).__name__, v.value]),
    (_is_named(_OBJECTS), ":object:", lambda v, place: [type(v).__name__, _encode(dict(vars(v)), place)]),
    (_is_record, ":record:", lambda v, place: [type(v).__module__, type(v).__name__, _parts(v, place)]),
]


# --------------------------------------------------------------------- reading


def _to_array(content: str) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(base64.b64decode(content)), allow_pickle=False)


def _to_dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"{name!r} is no kind of number")
    return dtype


def _to_generator(content: Any) -> np.random.Generator:
    state = decode(content)
    if state["bit_generator"] not in _GENERATORS:
        raise ValueError(f"unknown random generator {state['bit_generator']!r}")
    bits = getattr(np.random, state["bit_generator"])(0)
    bits.state = state
    return np.random.Generator(bits)


def _to_space(content: Any) -> spaces.Space:
    found = decode(content)
    kind, random = found.pop("kind"), found.pop("random", None)
    space: spaces.Space
    if kind == "Box":
        low, high, below, above = (np.broadcast_to(found[k], found["shape"]) for k in ("low", "high", "below", "above"))
        space = spaces.Box(low, high, found["shape"], _to_dtype(found["dtype"]).type)
        space.bounded_below, space.bounded_above = below.copy(), above.copy()
    elif kind == "Discrete":
        space = spaces.Discrete(found["n"], start=found["start"], dtype=_to_dtype(found["dtype"]).type)
    elif kind == "MultiDiscrete":
        space = spaces.MultiDiscrete(found["nvec"], dtype=_to_dtype(found["dtype"]).type, start=found["start"])
    elif kind == "MultiBinary":
        space = spaces.MultiBinary(found["n"])
    elif kind == "Dict":
        space = spaces.Dict(found["spaces"])
        space.spaces = found["spaces"]  # in the order of the file: the constructor may sort
    else:
        raise ValueError(f"unknown space {kind!r}")
    space._np_random = random
    return space


def _named(registry: dict[str, str], name: str) -> Any:
    if name not in registry:
        raise ValueError(f"unknown class {name!r}")
    if registry[name] == "rl_zoo3.utils":  # RL Zoo changes Gymnasium when it is imported, which our own module undoes
        return attrgetter(f"rl_zoo3.utils.{name}")(import_module("sb3_dream.zoo"))
    return getattr(import_module(registry[name]), name)


def _to_class(name: str) -> type:
    prefix, _, rest = name.rpartition(".")
    if prefix != "torch.optim":
        return _named(_CLASSES, name)
    found = getattr(th.optim, rest, None)
    if not (isinstance(found, type) and issubclass(found, th.optim.Optimizer)):
        raise ValueError(f"unknown optimiser {name!r}")
    return found


def _to_enum(content: Any) -> Enum:
    name, value = content
    return _named(_ENUMS, name)(value)


def _to_object(content: Any) -> Any:
    name, attributes = content
    kind = _named(_OBJECTS, name)
    made = kind.__new__(kind)
    vars(made).update(decode(attributes))
    return made


def _to_record(content: Any) -> Any:
    module, name, parts = content
    kind = _record_class(module, name)
    if kind is None or len(parts) != len(kind._fields):
        raise ValueError(f"unknown named tuple {module}.{name}, or another number of fields")
    return tuple.__new__(kind, decode(parts))


_DECODERS: dict[str, Callable[[Any], Any]] = {
    ":float:": float,
    ":tuple:": lambda content: tuple(decode(content)),
    ":dict:": lambda content: {decode(key): decode(part) for key, part in content},
    ":ordered:": lambda content: OrderedDict((decode(key), decode(part)) for key, part in content),
    ":set:": lambda content: set(decode(content)),
    ":frozenset:": lambda content: frozenset(decode(content)),
    ":deque:": lambda content: deque(decode(content[0]), maxlen=content[1]),
    ":bytes:": base64.b64decode,
    ":array:": _to_array,
    ":scalar:": lambda content: _to_dtype(content[0]).type(decode(content[1])),
    ":dtype:": lambda content: _to_dtype(content),
    ":scalar type:": lambda content: _to_dtype(content).type,
    ":generator:": _to_generator,
    ":space:": _to_space,
    ":class:": _to_class,
    ":enum:": _to_enum,
    ":object:": _to_object,
    ":record:": _to_record,
}
