"""What leaves the replay buffer: batches of sequences, or of single transitions, as tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_dream.replay_rows import FIRST, LAST, TERMINATED, Rows

TensorObservations = th.Tensor | dict[str, th.Tensor]


class SequenceRows(NamedTuple):
    """Where a batch of sequences was read: environment and absolute number of the first row, both of shape ``(B,)``."""

    env_index: np.ndarray
    start: np.ndarray


class SequenceSamples(NamedTuple):
    """
    A batch of ``B`` sequences of ``T`` rows, on the buffer's device. Where ``valid`` is False, a sequence is padded
    behind its end: everything is zero there, but for the masks, which allow every action.
    """

    observations: TensorObservations
    """``(B, T, *shape)``, or a dictionary of those: what was seen."""
    actions: th.Tensor
    """``(B, T, action_dim)``: the action taken at this observation; zeros where ``is_last``."""
    rewards: th.Tensor
    """``(B, T)`` float32: the reward received on arrival at this observation; 0 where ``is_first``."""
    is_first: th.Tensor
    """``(B, T)`` bool: an episode begins with this observation."""
    is_last: th.Tensor
    """``(B, T)`` bool: an episode ended with this observation, by termination or by a time limit."""
    terminated: th.Tensor
    """``(B, T)`` bool: this observation is terminal; a time limit is not a termination."""
    valid: th.Tensor
    """``(B, T)`` bool: this row is real."""
    memory: th.Tensor
    """``(B, memory_size)`` float32: the recurrent memory before the first observation of the sequence."""
    masks: th.Tensor | None
    """``(B, T, mask_shape)`` bool: the actions allowed at this observation; None where none are stored."""
    rows: SequenceRows
    """Where the sequences lie, for :meth:`SequenceReplayBuffer.update_memory`."""


def _read_observations(
    rows: Rows, slots: np.ndarray, env: VecNormalize | None, finish: Callable[[np.ndarray], th.Tensor]
) -> TensorObservations:
    observations = rows.read_observations(slots)
    if env is not None:
        observations = env.normalize_obs(observations)
    if isinstance(observations, dict):
        return {key: finish(part) for key, part in observations.items()}
    return finish(observations)


def _read_rewards(rows: Rows, slots: np.ndarray, env: VecNormalize | None) -> np.ndarray:
    rewards = rows.reward.read(slots)
    return rewards if env is None else env.normalize_reward(rewards)


def read_sequences(
    rows: Rows, slots: np.ndarray, valid: np.ndarray, where: SequenceRows, env: VecNormalize | None, device: th.device
) -> SequenceSamples:
    """
    :param rows: the store
    :param slots: places, ``(B, T)``; where ``valid`` is False, any place
    :param valid: which rows are real, ``(B, T)``
    :param where: handed on with the samples
    :param env: normalises observations and rewards
    :param device: of the tensors
    :return: the sequences
    """
    padding = None if valid.all() else ~valid

    def finish(values: np.ndarray, fill: int = 0) -> th.Tensor:
        if padding is not None:
            values[padding] = fill
        return th.as_tensor(values, device=device)

    return SequenceSamples(
        observations=_read_observations(rows, slots, env, finish),
        actions=finish(rows.action.read(slots)),
        rewards=finish(_read_rewards(rows, slots, env)),
        is_first=finish(rows.has_flag(slots, FIRST)),
        is_last=finish(rows.has_flag(slots, LAST)),
        terminated=finish(rows.has_flag(slots, TERMINATED)),
        valid=th.as_tensor(valid, device=device),
        memory=th.as_tensor(rows.memory.read(slots[:, 0]).astype(np.float32), device=device),
        masks=None if rows.mask is None else finish(rows.mask.read(slots), fill=1),
        rows=where,
    )


def read_transitions(
    rows: Rows, before: np.ndarray, after: np.ndarray, env: VecNormalize | None, device: th.device
) -> ReplayBufferSamples:
    """
    :param rows: the store
    :param before: places of the rows where the transitions begin, ``(B,)``
    :param after: places of the rows where they arrive, ``(B,)``
    :param env: normalises observations and rewards
    :param device: of the tensors
    :return: the transitions in SB3's form, with ``dones`` for terminations only
    """
    tensor = partial(th.as_tensor, device=device)
    kind: Any = DictReplayBufferSamples if rows.is_dict else ReplayBufferSamples
    return kind(
        observations=_read_observations(rows, before, env, tensor),
        actions=tensor(rows.action.read(before)),
        next_observations=_read_observations(rows, after, env, tensor),
        dones=tensor(rows.has_flag(after, TERMINATED).astype(np.float32)[:, None]),
        rewards=tensor(_read_rewards(rows, after, env)[:, None]),
    )
