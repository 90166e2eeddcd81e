"""What a replayed row holds: observation, action, reward on arrival, flags, recurrent memory and action mask."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import DTypeLike

from sb3_dream.replay_columns import BitColumn, Column, SaturatingColumn, TensorColumn, observation_columns
from sb3_dream.replay_storage import NonZeroIndex

Observations = np.ndarray | dict[str, np.ndarray]
Encoded = list[tuple[Column, Any]]  # what to write into which column

FIRST, LAST, TERMINATED = 1, 2, 4  # bits of a row's flags
ALL_ALLOWED = 255  # a byte of a mask


class Rows:
    """
    The columns that a caller of the replay buffer fills, and an index of the rows with a reward.

    :param observation_space: observation space; a ``Dict`` has a column for each key
    :param action_dim: length of an action vector
    :param action_dtype: its dtype
    :param memory_size: length of the recurrent memory
    :param memory_dtype: floating dtype in which it is stored
    :param mask_shape: number of actions in an action mask, None for no masks
    :param binary: which observations are packed, see :func:`~sb3_dream.replay_columns.observation_columns`
    :param device: where observations, actions, memories and masks are
    :raises ValueError: for arguments that do not fit together
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_dim: int,
        action_dtype: DTypeLike | None,
        memory_size: int,
        memory_dtype: DTypeLike,
        mask_shape: int | None,
        binary: bool | Literal["auto"],
        device: th.device,
    ) -> None:
        if memory_size < 0 or not np.issubdtype(memory_dtype, np.floating):
            raise ValueError(
                f"Expected memory_size >= 0 and a floating memory_dtype, got {memory_size} and {memory_dtype}."
            )
        if mask_shape is not None and mask_shape < 1:
            raise ValueError(f"mask_shape must be the number of actions or None, not {mask_shape}.")
        self.is_dict = isinstance(observation_space, spaces.Dict)
        self.observations = observation_columns(observation_space, binary, device)
        self.action = TensorColumn("action", (action_dim,), action_dtype, device)
        self.memory = SaturatingColumn("memory", (memory_size,), memory_dtype, device)
        self.mask = None
        if mask_shape is not None:
            self.mask = BitColumn("action mask", (mask_shape,), np.bool_, device, padding=ALL_ALLOWED)
        self.reward = Column("reward", (), np.float32)
        self.flags = Column("flags", (), np.uint8)
        self.rewarded = NonZeroIndex(0)

    @property
    def columns(self) -> list[Column]:
        """All columns."""
        optional = [] if self.mask is None else [self.mask]
        return [*self.observations.values(), self.action, self.memory, self.reward, self.flags, *optional]

    def allocate(self, rows: int) -> None:
        """Make room for ``rows`` empty rows; what was stored is dropped."""
        for column in self.columns:
            column.allocate(rows)
        self.rewarded = NonZeroIndex(rows)

    def encode(
        self,
        count: int,
        observations: Observations,
        actions: np.ndarray | None = None,
        memory: np.ndarray | th.Tensor | None = None,
        masks: np.ndarray | None = None,
    ) -> Encoded:
        """
        Check and pack the caller's part of ``count`` rows.

        :param count: number of rows
        :param observations: ``(count, *shape)``, or a dictionary of those
        :param actions: ``(count, action_dim)``; None for zeros
        :param memory: ``(count, memory_size)``; None for zeros
        :param masks: ``(count, mask_shape)``; None for masks that allow every action
        :return: what :meth:`write` takes
        :raises ValueError: if something has a wrong shape or cannot be stored
        """
        parts = observations if isinstance(observations, dict) else {"": observations}
        if parts.keys() != self.observations.keys() or isinstance(observations, dict) != self.is_dict:
            expected = f"a dictionary with the keys {list(self.observations)}" if self.is_dict else "an array"
            raise ValueError(f"Replay buffer: the observation must be {expected}.")
        values: Encoded = [(column, column.encode(parts[key], count)) for key, column in self.observations.items()]
        values.append((self.action, 0 if actions is None else self.action.encode(actions, count)))
        values.append((self.memory, 0 if memory is None else self.memory.encode(memory, count)))
        if self.mask is not None:
            values.append((self.mask, ALL_ALLOWED if masks is None else self.mask.encode(masks, count)))
        elif masks is not None:
            raise ValueError("Replay buffer: got action masks, but it was created with mask_shape=None.")
        return values

    def require_masks(self, masks: np.ndarray | None) -> None:
        """
        :raises ValueError: if masks are stored, but none are given
        """
        if self.mask is not None and masks is None:
            raise ValueError(f"Replay buffer: it was created with mask_shape={self.mask.bits}, so it needs masks.")

    def write(self, slots: np.ndarray, values: Encoded, rewards: np.ndarray, flags: np.ndarray) -> None:
        """
        Store rows at distinct places.

        :param slots: places, ``(k,)``
        :param values: from :meth:`encode`
        :param rewards: rewards on arrival, ``(k,)``
        :param flags: sums of ``FIRST``, ``LAST`` and ``TERMINATED``, ``(k,)``
        """
        self.rewarded.update(slots, self.reward.data[slots], rewards)
        self.reward.data[slots] = rewards
        self.flags.data[slots] = flags
        for column, value in values:
            column.write(slots, value)

    def rearrange(self, rows: int, slots: np.ndarray, origins: np.ndarray) -> None:
        """
        Move rows into a store of another size, one column after another, so that only one is held twice.

        :param rows: size of the new store
        :param slots: places in the new store, ``(k,)``
        :param origins: where their rows lie in the old one, ``(k,)``
        """
        for column in self.columns:
            column.rearrange(rows, slots, origins)
        self.count_rewards()

    def count_rewards(self) -> None:
        """Make the index of the rows with a reward anew."""
        rewards = self.reward.data
        self.rewarded = NonZeroIndex(len(rewards))
        self.rewarded.update(np.arange(len(rewards)), np.zeros(1), rewards)

    def read_observations(
        self, slots: np.ndarray, padded: np.ndarray | None = None
    ) -> th.Tensor | dict[str, th.Tensor]:
        """
        :param slots: places, an integer array of any shape
        :param padded: bool of the same shape, which rows are not real; None if all are
        :return: new tensors of shape ``(*slots.shape, *shape)`` where the rows are
        """
        read = {key: column.read(slots, padded) for key, column in self.observations.items()}
        return read if self.is_dict else read[""]

    def has_flag(self, slots: np.ndarray, flag: int) -> np.ndarray:
        """Whether the rows at these places carry a flag."""
        return self.flags.stored(slots) & flag != 0
