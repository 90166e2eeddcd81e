"""Encoded observations, as a world model has them, back to what an environment gives and to what people can look at."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sb3_dream.spaces import VECTOR, Observation, ObservationSpec

Raw = NDArray[Any] | dict[str, NDArray[Any]]
"""Observations of N rows as environments give them: one array, or a dictionary of arrays."""


def to_raw(spec: ObservationSpec, observation: Observation) -> Raw:
    """
    The inverse of ``spec.encode``; numbers that no observation can have go to the nearest that one can.

    :param spec: what the observations are
    :param observation: encoded, each tensor (N, ...)
    :return: observations of ``spec.space``, N rows
    """
    parts, position = {}, 0
    for key, space in spec.parts.items():
        if key in spec.image_shapes:
            values = 255 * observation[key].cpu().numpy()
        else:
            size = _encoded_size(space)
            values = observation[VECTOR][:, position : position + size].cpu().numpy()
            position += size
        parts[key] = _to_space(values, space)
    return parts if isinstance(spec.space, spaces.Dict) else next(iter(parts.values()))


def to_frames(spec: ObservationSpec, observation: Observation) -> NDArray[Any]:
    """
    :param spec: what the observations are
    :param observation: encoded, each tensor (N, ...)
    :return: pictures for people: the first image if there is one, (N, rows, columns, 3), or (N, rows, columns) if it
        has not three colours; else the first grid of the vector, (N, rows, columns); else the vector (N, V)
    """
    if spec.image_shapes:
        image = observation[next(iter(spec.image_shapes))].cpu().numpy()  # (N, C, H, W)
        return np.moveaxis(image, 1, -1) if image.shape[1] == 3 else image.mean(1)
    vector = observation[VECTOR].cpu().numpy()
    for grid in spec.layout.grids:
        return vector[:, grid.start : grid.start + grid.size].reshape(-1, grid.rows, grid.columns)
    return vector


def _encoded_size(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return int(np.prod(space.shape or ()))


def _to_space(values: NDArray[Any], space: spaces.Space[Any]) -> NDArray[Any]:
    """:param values: encoded, (N, ...)"""
    if isinstance(space, spaces.Discrete):
        return values.argmax(-1).astype(space.dtype) + space.start
    if isinstance(space, spaces.MultiDiscrete):
        parts = np.split(values, np.cumsum(space.nvec.reshape(-1))[:-1], axis=-1)
        chosen = np.stack([part.argmax(-1) for part in parts], -1).reshape(-1, *space.shape)
        return chosen.astype(space.dtype) + space.start
    values = values.reshape(-1, *(space.shape or ()))
    if isinstance(space, spaces.Box):
        if not np.issubdtype(space.dtype, np.floating):
            values = np.rint(values)
        return np.clip(values, space.low, space.high).astype(space.dtype)
    return np.rint(values).astype(space.dtype)
