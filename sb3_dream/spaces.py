"""How Gymnasium spaces become tensors: observations as one vector plus images, actions as one vector.

An environment may describe its flat observation further through an attribute ``observation_layout``::

    {"binary": True,                                          # every value is 0 or 1
     "grids": [{"start": 0, "rows": 20, "columns": 10}],      # row-major pictures inside the vector
     "codes": [{"start": 200, "bits": 3}],                    # bits that only make sense together
     "actions": {"rows": 20, "columns": 10, "depth": 4}}      # each action is about a cell of the pictures

All keys are optional. Networks then treat a grid's columns alike, and the world model predicts bits and
codes with the matching distributions. Where actions are about cells, action ``(row * columns + column) * depth + k``
is the k-th of that cell. Without a layout, everything still works from the space alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch as th
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, is_image_space

from sb3_dream.nn.grid import Grid, Layout

Observation = dict[str, th.Tensor]
"""An encoded observation: ``"vector"`` of shape (..., V), and each image of shape (..., C, H, W) under its own key."""

VECTOR = "vector"
IMAGE = "image"


@dataclass(frozen=True)
class Segment:
    """A run of the observation vector whose values share one distribution.

    :param kind: ``"continuous"``, ``"bits"`` (independent bits), ``"code"`` (bits of one binary number) or ``"onehot"``
    :param start: index of the first value
    :param size: number of values
    :param unit: whether continuous values have bounds of 0 and 1; some environments have no others than these
    """

    kind: Literal["continuous", "bits", "code", "onehot"]
    start: int
    size: int
    unit: bool = False

    @property
    def slice(self) -> slice:
        return slice(self.start, self.start + self.size)


class ObservationSpec:
    """Encodes raw observations of a space as floats, and says what the numbers mean.

    :param space: observation space: Box, Discrete, MultiDiscrete, MultiBinary, or a flat Dict of them
    :param layout: the environment's ``observation_layout`` (see the module's text), for flat observations only
    """

    def __init__(self, space: spaces.Space, layout: dict[str, Any] | None = None) -> None:
        self.space = space
        self.parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {IMAGE: space}
        self.image_shapes: dict[str, tuple[int, ...]] = {}
        self.segments: tuple[Segment, ...] = ()
        if not self.parts:
            raise ValueError(f"the observation space {space} is empty")
        for key, part in self.parts.items():
            _require_flat(part, f"observation space {key!r}" if isinstance(space, spaces.Dict) else "observation space")
            if is_image_space(part, check_channels=False):
                self.image_shapes[key] = tuple(part.shape or ())
            else:
                self.segments += tuple(_segments(key, part, self.vector_size))
        if VECTOR in self.image_shapes:
            raise ValueError(f"an image of a Dict space may not be called {VECTOR!r}: the flat parts together are")
        grids: tuple[Grid, ...] = ()
        if layout is not None:
            if isinstance(space, spaces.Dict) or self.image_shapes:
                raise ValueError("observation_layout describes one flat observation, not images or a Dict space")
            self.segments, grids = _apply_layout(layout, self.vector_size, self.segments)
        self.layout = Layout(self.vector_size, grids)

    @property
    def vector_size(self) -> int:
        return sum(segment.size for segment in self.segments)

    def holds_bits(self, start: int, size: int) -> bool:
        """Whether these values of the vector are independent bits, all of them."""
        return any(s.kind == "bits" and s.start <= start and start + size <= s.start + s.size for s in self.segments)

    def encode(self, observation: th.Tensor | dict[str, th.Tensor]) -> Observation:
        """
        :param observation: raw tensors with any leading dimensions, as stored or as the environment gives them
        :return: float32 tensors: ``"vector"`` (..., V) and the images (..., C, H, W) in [0, 1]
        """
        raw = observation if isinstance(observation, dict) else {IMAGE: observation}
        encoded: Observation = {}
        vectors = []
        for key, part in self.parts.items():
            value = raw[key]
            if key in self.image_shapes:
                encoded[key] = value.float() / 255.0
            else:
                vectors.append(_flatten(value, part))
        if vectors:
            encoded[VECTOR] = vectors[0] if len(vectors) == 1 else th.cat(vectors, -1)
        return encoded


class ActionSpec:
    """Encodes actions as vectors, and knows the shape of what a policy has to output.

    :param space: Discrete, MultiDiscrete, MultiBinary or a bounded Box
    :param layout: the environment's ``observation_layout`` (see the module's text)
    """

    def __init__(self, space: spaces.Space, layout: dict[str, Any] | None = None) -> None:
        self.space = space
        self.continuous = isinstance(space, spaces.Box)
        _require_flat(space, "action space")
        if isinstance(space, spaces.Discrete):
            self.choices: tuple[int, ...] = (int(space.n),)
        elif isinstance(space, spaces.MultiDiscrete):
            self.choices = tuple(int(n) for n in space.nvec.reshape(-1))
        elif isinstance(space, spaces.MultiBinary):
            if len(space.shape) != 1:
                raise ValueError(f"the action space {space} must have one dimension, as Stable-Baselines3 takes it")
            self.choices = (2,) * int(np.prod(space.shape))
        elif isinstance(space, spaces.Box):
            self.choices = ()
        else:
            raise ValueError(f"unsupported action space {space}: expected Discrete, MultiDiscrete, MultiBinary or Box")
        self.vector_size = get_action_dim(space) if self.continuous else sum(self.choices)
        self.layout = Layout(self.vector_size, _action_grids(layout or {}, self.vector_size, space))

    def encode(self, action: th.Tensor) -> th.Tensor:
        """
        :param action: (..., n) stored actions: indices for discrete spaces, values in [-1, 1] for a Box
        :return: (..., A) one-hot vectors side by side, or the values themselves
        """
        if self.continuous:
            return action.float()
        columns = action.split(1, -1)  # compared, since F.one_hot takes several times as long
        parts = [column == th.arange(n, device=action.device) for column, n in zip(columns, self.choices, strict=True)]
        return (parts[0] if len(parts) == 1 else th.cat(parts, -1)).float()

    def sample(self, count: int, mask: th.Tensor | None = None) -> th.Tensor:
        """
        :param count: how many
        :param mask: (count, K) bool of allowed choices, or None
        :return: (count, n) actions as they are stored, uniformly random out of the allowed ones
        """
        if self.continuous:
            return 2 * th.rand(count, self.vector_size) - 1
        allowed = th.ones(count, self.vector_size) if mask is None else mask.float()
        return th.cat([part.multinomial(1) for part in allowed.split(self.choices, -1)], -1).float()


def _require_flat(space: spaces.Space, name: str) -> None:
    """
    :raises ValueError: for what holds nothing, or has more dimensions than Stable-Baselines3 takes
    """
    if isinstance(space, spaces.MultiDiscrete) and len(space.shape) != 1:
        raise ValueError(f"the {name} {space} has {len(space.shape)} dimensions, but a MultiDiscrete must have one")
    if isinstance(space, spaces.Box | spaces.MultiBinary) and not np.prod(space.shape):
        raise ValueError(f"the {name} {space} is empty: expected at least one number")


def _segments(key: str, space: spaces.Space, start: int) -> list[Segment]:
    if isinstance(space, spaces.Discrete):
        return [Segment("onehot", start, int(space.n))]
    if isinstance(space, spaces.MultiDiscrete):
        sizes = [int(n) for n in space.nvec.reshape(-1)]
        return [Segment("onehot", start + sum(sizes[:i]), n) for i, n in enumerate(sizes)]
    if isinstance(space, spaces.MultiBinary):
        return [Segment("bits", start, int(np.prod(space.shape)))]
    if isinstance(space, spaces.Box):
        counts = space.dtype == np.bool_ or np.issubdtype(space.dtype, np.integer)
        unit = ((space.low == 0) & (space.high == 1)).reshape(-1)
        if counts and unit.all():
            return [Segment("bits", start, len(unit))]
        runs = np.split(np.arange(len(unit)), np.flatnonzero(np.diff(unit)) + 1)
        return [Segment("continuous", start + int(run[0]), len(run), bool(unit[run[0]])) for run in runs]
    raise ValueError(
        f"unsupported observation space {space} ({key!r}): expected Box, Discrete, MultiDiscrete, MultiBinary "
        "or a flat Dict of them"
    )


def _flatten(value: th.Tensor, space: spaces.Space) -> th.Tensor:
    # replay pads with zeros, which may lie below a space's start: any class will do for those
    if isinstance(space, spaces.Discrete):
        return F.one_hot((value.long() - int(space.start)).clamp(0, int(space.n) - 1), int(space.n)).float()
    if isinstance(space, spaces.MultiDiscrete):
        value = value.long() - th.as_tensor(space.start, device=value.device)
        value = value.clamp(min=0).minimum(th.as_tensor(space.nvec - 1, device=value.device))
        flat = value.flatten(value.dim() - len(space.shape))
        sizes = space.nvec.reshape(-1)
        return th.cat([F.one_hot(column, int(n)).float() for column, n in zip(flat.unbind(-1), sizes, strict=True)], -1)
    shape: tuple[int, ...] = space.shape or ()
    return value.float().reshape(*value.shape[: value.dim() - len(shape)], -1)


def _apply_layout(
    layout: dict[str, Any], size: int, segments: tuple[Segment, ...]
) -> tuple[tuple[Segment, ...], tuple[Grid, ...]]:
    unknown = set(layout) - {"binary", "grids", "codes", "actions"}
    if unknown:
        known = "'binary', 'grids', 'codes' and 'actions'"
        raise ValueError(f"unknown {sorted(unknown)} in observation_layout; known are {known}")
    grids = tuple(Grid(g["start"], g["rows"], g["columns"]) for g in layout.get("grids", ()))
    if any(grid.start + grid.size > size for grid in grids):
        raise ValueError(f"observation_layout describes more than the observation's {size} values: {layout}")
    if not layout.get("binary"):
        if layout.get("codes"):
            raise ValueError(f"the codes of observation_layout are bits, so it must say 'binary': True: {layout}")
        return segments, grids
    codes = sorted((int(code["start"]), int(code["bits"])) for code in layout.get("codes", ()))
    result, position = [], 0
    for start, bits in [*codes, (size, 0)]:
        if start < position or bits < 0:
            raise ValueError(f"the codes of observation_layout overlap or leave its {size} values: {layout}")
        if start > position:
            result.append(Segment("bits", position, start - position))
        if bits:
            result.append(Segment("code", start, bits))
        position = start + bits
    return tuple(result), grids


def _action_grids(layout: dict[str, Any], size: int, space: spaces.Space) -> tuple[Grid, ...]:
    actions = layout.get("actions")
    if actions is None:
        return ()
    if isinstance(space, spaces.Box):
        raise ValueError(f"the actions of observation_layout are about cells, one choice each, but they are {space}")
    grid = Grid(0, actions["rows"], actions["columns"], actions.get("depth", 1))
    columns = {picture["columns"] for picture in layout.get("grids", ())}
    if grid.size != size or columns != {grid.columns}:
        raise ValueError(
            f"the actions of observation_layout must be all {size}, in as many columns as its grids have: {layout}"
        )
    return (grid,)
