"""What leaves the replay buffer: batches of sequences, or of single transitions, as tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from sb3_dream.nn.transfers import to_device
from sb3_dream.replay_rows import FIRST, LAST, TERMINATED, Rows

TensorObservations = th.Tensor | dict[str, th.Tensor]


class SequenceRows(NamedTuple):
    """Where a batch of sequences was read, on the processor, a number for each sequence: all of shape ``(B,)``."""

    env_index: np.ndarray
    """The environment."""
    start: np.ndarray
    """Absolute number of the first row."""
    length: np.ndarray
    """How many rows are real."""
    n_open: np.ndarray
    """How many of them are not terminal: all, or all but the last."""


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


def _each(function: Callable[[Any], Any], observations: Any) -> Any:
    if isinstance(observations, dict):
        return {key: function(part) for key, part in observations.items()}
    return function(observations)


def _read_observations(
    rows: Rows, slots: np.ndarray, env: VecNormalize | None, device: th.device, padded: np.ndarray | None = None
) -> TensorObservations:
    read = rows.read_observations(slots, padded)
    if env is None:
        return _each(partial(to_device, device=device), read)

    def finish(values: np.ndarray) -> th.Tensor:
        if padded is not None:
            values[padded] = 0
        return to_device(values, device)

    return _each(finish, env.normalize_obs(_each(lambda part: part.cpu().numpy(), read)))


def _read_rewards(rows: Rows, slots: np.ndarray, env: VecNormalize | None) -> np.ndarray:
    rewards = rows.reward.stored(slots)
    return rewards if env is None else env.normalize_reward(rewards)


def read_sequences(
    rows: Rows,
    slots: np.ndarray,
    counts: np.ndarray,
    env_index: np.ndarray,
    start: np.ndarray,
    env: VecNormalize | None,
    device: th.device,
) -> SequenceSamples:
    """
    :param rows: the store
    :param slots: places, ``(B, T)``; where rows are not real, any place
    :param counts: how many rows of each sequence are real, ``(B,)``
    :param env_index: handed on with the samples
    :param start: handed on with the samples
    :param env: normalises observations and rewards
    :param device: of the tensors
    :return: the sequences
    """
    valid = np.arange(slots.shape[1]) < counts[:, None]
    padded = None if valid.all() else ~valid
    rewards, terminated = _read_rewards(rows, slots, env), rows.has_flag(slots, TERMINATED) & valid
    to = partial(to_device, device=device)
    return SequenceSamples(
        observations=_read_observations(rows, slots, env, device, padded),
        actions=to(rows.action.read(slots, padded)),
        rewards=to(np.where(valid, rewards, np.zeros((), rewards.dtype))),
        is_first=to(rows.has_flag(slots, FIRST) & valid),
        is_last=to(rows.has_flag(slots, LAST) & valid),
        terminated=to(terminated),
        valid=to(valid),
        memory=to(rows.memory.read(slots[:, 0])).float(),
        masks=None if rows.mask is None else to(rows.mask.read(slots, padded)),
        rows=SequenceRows(env_index, start, counts, counts - terminated.any(-1)),
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
    to = partial(to_device, device=device)
    kind: Any = DictReplayBufferSamples if rows.is_dict else ReplayBufferSamples
    return kind(
        observations=_read_observations(rows, before, env, device),
        actions=to(rows.action.read(before)),
        next_observations=_read_observations(rows, after, env, device),
        dones=to(rows.has_flag(after, TERMINATED).astype(np.float32)[:, None]),
        rewards=to(_read_rewards(rows, after, env)[:, None]),
    )
