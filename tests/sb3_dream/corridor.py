"""A tiny deterministic environment, as sequences: a corridor with a pit at its left end and a reward at its right."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_dream.spaces import ActionSpec, ObservationSpec
from sb3_dream.world_models.base import Sequences, WorldModel

CELLS = 8
SPACES: dict[str, spaces.Space] = {
    "bits": spaces.MultiBinary(CELLS),
    "onehot": spaces.Discrete(CELLS),
    "continuous": spaces.Box(0.0, 10.0 * CELLS, (1,), np.float32),
    "image": spaces.Box(0, 255, (3, 8, 9), np.uint8),
    "dict": spaces.Dict({"cell": spaces.Discrete(CELLS), "camera": spaces.Box(0, 255, (3, 8, 9), np.uint8)}),
}
ACTION_SPEC = ActionSpec(spaces.Discrete(2))

Kind = Literal["bits", "onehot", "continuous", "image", "dict"]


def spec(kind: Kind) -> ObservationSpec:
    return ObservationSpec(SPACES[kind])


def look(cells: th.Tensor, kind: Kind) -> th.Tensor | dict[str, th.Tensor]:
    """
    :param cells: (...) where the walker is
    :return: raw observations
    """
    bits = th.eye(CELLS)[cells]  # (..., 8)
    if kind == "bits":
        return bits
    if kind == "continuous":
        return 10.0 * cells[..., None].float()
    camera = (255 * bits).byte()[..., None, :, None].expand(*cells.shape, 3, CELLS, 9)
    return {"onehot": cells, "image": camera, "dict": {"cell": cells, "camera": camera}}[kind]


def walk(batch: int, length: int, seed: int) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """Random walks of ``length`` rows from random cells.

    :return: cells (B, T), actions (B, T) and whether each row is still part of the episode (B, T)
    """
    generator = th.Generator().manual_seed(seed)
    actions = th.randint(2, (batch, length), generator=generator)
    rows = [th.randint(1, CELLS, (batch,), generator=generator)]
    for t in range(length - 1):
        moved = (rows[-1] + 2 * actions[:, t] - 1).clamp(0, CELLS - 1)
        rows.append(th.where(rows[-1] == 0, 0, moved))
    cells = th.stack(rows, 1)
    ended_before = th.cat((th.zeros(batch, 1, dtype=th.bool), cells[:, :-1] == 0), 1)
    return cells, actions, ~ended_before


def sequences(model: WorldModel, kind: Kind, batch: int = 32, length: int = 16, seed: int = 0) -> Sequences:
    """Whole episodes from their start, padded behind their end; going left is not allowed in the rightmost cell."""
    cells, actions, valid = walk(batch, length, seed)
    reward = (cells == CELLS - 1).float()
    reward[:, 0] = 0.0
    mask = None
    if model.mask_size is not None:
        mask = th.ones(batch, length, 2)
        mask[..., 0] = (cells < CELLS - 1).float()
    return Sequences(
        observation=model.observation_spec.encode(look(cells, kind)),
        action=ACTION_SPEC.encode(actions[..., None]),
        reward=reward,
        terminated=(cells == 0).float(),
        valid=valid.float(),
        memory=model.initial_memory(batch),
        mask=mask,
    )
