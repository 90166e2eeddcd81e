"""``DREAMAgent``: a trained agent for deployment. It needs no environment and imports no training code."""

from __future__ import annotations

import os

import numpy as np
import torch as th

from sb3_dream.model_files import load_policy
from sb3_dream.spaces import IMAGE


class DREAMAgent:
    """
    Plays with a saved model and remembers, for each game, what it has seen. ::

        agent = DREAMAgent("model.zip")
        agent.reset()
        action = agent.get_action(observation)

    Observations are what the model saw in training: where that was behind ``VecNormalize``, normalised ones.

    :param path: a file that ``DREAM.save`` wrote
    :param device: where to compute
    :param trust: see :func:`~sb3_dream.model_files.read_model`
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if it is damaged, no model of DREAM, or would have to be trusted
    """

    def __init__(
        self, path: str | os.PathLike[str], device: th.device | str = "auto", trust: bool | None = None
    ) -> None:
        self.policy = load_policy(path, device, trust)
        self.observation_space = self.policy.observation_space
        self.action_space = self.policy.action_space
        self._state: tuple[np.ndarray, ...] | None = None

    def reset(self, ended: np.ndarray | None = None) -> None:
        """
        Forget: call it before the first observation of an episode.

        :param ended: (N,) bool, which of N games begin anew; None for all of them, whose number may then change
        """
        if ended is None or self._state is None:
            self._state = None
            return
        ended = np.asarray(ended, dtype=bool)
        if ended.shape != self._state[0].shape[:1]:
            raise ValueError(f"expected a flag for each of {len(self._state[0])} games, got shape {ended.shape}")
        self._state = tuple(np.where(ended.reshape(-1, *[1] * (part.ndim - 1)), 0, part) for part in self._state)

    def get_action(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        action_mask: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> np.ndarray:
        """
        :param observation: one observation, or a batch of N, one for each game
        :param action_mask: (K,) or (N, K) bool, which actions are allowed; None for what the model believes
        :param deterministic: the most probable action instead of a sampled one
        :return: an action, or N of them, as the environment takes them
        :raises ValueError: if the number of games changed without a reset, or the mask does not fit
        """
        games = self._count(observation)
        if self._state is not None and games != len(self._state[0]):
            raise ValueError(f"{games} observations after {len(self._state[0])} the last time: call reset() in between")
        if action_mask is not None:
            action_mask = self._checked(np.asarray(action_mask, dtype=bool), games)
        action, self._state = self.policy.predict(
            observation, self._state, deterministic=deterministic, action_masks=action_mask
        )
        return action

    def _count(self, observation: np.ndarray | dict[str, np.ndarray]) -> int:
        key = next(iter(observation)) if isinstance(observation, dict) else IMAGE
        part = np.asarray(observation[key] if isinstance(observation, dict) else observation)
        shape = self.policy.observation_spec.parts[key].shape or ()
        return len(part) if part.ndim > len(shape) else 1

    def _checked(self, mask: np.ndarray, games: int) -> np.ndarray:
        size = self.policy.mask_size
        if size is None:
            raise ValueError("this model was trained without action masks: leave action_mask away")
        if mask.shape != (games, size) and (games, mask.shape) != (1, (size,)):
            raise ValueError(f"expected an action mask of shape ({games}, {size}), got {mask.shape}")
        ends = np.cumsum(self.policy.action_spec.choices)[:-1]
        if not all(part.any(-1).all() for part in np.split(mask, ends, axis=-1)):
            raise ValueError("the action mask allows no action at all")
        return mask.reshape(games, size)
