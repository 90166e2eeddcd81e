"""A model as a function from observations to actions, for one environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_dream.evaluation import MASK_METHOD, takes_masks


class Player:
    """
    Plays one environment with a model; keeps the recurrent state, and gives the model the masks where it takes them.

    :param model: what decides
    :param env: the environment that is played
    :param deterministic: take the most likely action instead of sampling
    """

    def __init__(self, model: BaseAlgorithm, env: gym.Env, deterministic: bool = True) -> None:
        self._model = model
        self._env = env
        self._deterministic = deterministic
        self._masks = takes_masks(model) and env.has_wrapper_attr(MASK_METHOD)
        self._state: tuple[np.ndarray, ...] | None = None
        self._starts = True

    def reset(self) -> None:
        """A new episode begins."""
        self._state, self._starts = None, True

    def __call__(self, observation: Any) -> Any:
        """
        :param observation: of the environment
        :return: an action
        """
        masks = {MASK_METHOD: self._env.get_wrapper_attr(MASK_METHOD)()} if self._masks else {}
        action, self._state = self._model.predict(
            observation,
            state=self._state,
            episode_start=np.array([self._starts]),
            deterministic=self._deterministic,
            **masks,
        )
        self._starts = False
        return action
