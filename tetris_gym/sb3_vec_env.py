"""Many games as a native vector environment of Stable-Baselines3."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from tetris_gym import layout
from tetris_gym.batch import GameBatch, Indices
from tetris_gym.env import Snapshot, TetrisEnv
from tetris_gym.infos import idle_info, info_rows, read_info, update_idle_info
from tetris_gym.rewards import RewardMode
from tetris_gym.settings import ActionMode, ObsType, Settings

_NOT_THROUGH_ENV_METHOD = ("step", "reset", "close")


class TetrisVecEnv(VecEnv):
    """
    Many games that step in one compiled call: the same trajectories as ``make_vec_env`` gives for the same seeds,
    with the infos of a ``Monitor``.

    :param num_envs: number of games
    :param action_mode: see :class:`~tetris_gym.env.TetrisEnv`, and for all others up to ``render_mode``
    :param max_episode_steps: steps after which an episode is truncated
    """

    def __init__(
        self,
        num_envs: int,
        action_mode: ActionMode = "direct",
        reward_mode: RewardMode = "standard",
        obs_type: ObsType = "flat",
        pad_to: int | None = None,
        difficulty: int = 0,
        gravity_interval: int | None = None,
        render_mode: str | None = None,
        max_episode_steps: int = 10_000,
    ) -> None:
        settings = Settings(action_mode, reward_mode, obs_type, pad_to, difficulty, gravity_interval, render_mode)
        self._batch = GameBatch(num_envs, settings, max_episode_steps)
        super().__init__(num_envs, settings.observation_space, settings.action_space)
        self.metadata = TetrisEnv.metadata
        self._actions: Any = None
        self._start = time.time()
        self._returns = np.zeros(num_envs)
        self._idle_infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]

    @property
    def observation_layout(self) -> dict[str, Any] | None:
        """What the numbers of a flat observation are, as plain data; None for other types of observation."""
        return self._batch.settings.observation_layout

    def reset(self) -> VecEnvObs:
        """
        Begin an episode in every game.

        :return: the first observations
        """
        if any(self._options):
            raise ValueError(f"TetrisVecEnv knows no options, got {self._options!r}.")
        self._batch.reset(self._batch.everyone, self._seeds)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._take_over(self._batch.everyone)
        return self._batch.observations()

    def step_async(self, actions: NDArray[Any]) -> None:
        """
        :param actions: what :meth:`step_wait` is to play, shape (num_envs,)
        """
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """
        :return: observations, rewards, dones and infos
        """
        batch = self._batch
        changed = batch.step(self._actions)
        self._returns += batch.rewards
        infos = self._step_infos(changed)
        dones = batch.terminated | batch.truncated
        rewards = batch.rewards.astype(np.float32)
        done = np.flatnonzero(dones)
        if done.size > 0:
            self._finish(done, infos)
        return batch.observations(), rewards, dones, infos

    def _step_infos(self, changed: Indices) -> list[dict[str, Any]]:
        """The infos of a step; something has happened in some games."""
        games, idle_infos = self._batch.games, self._idle_infos
        placed = games[changed, layout.PIECE_PLACED] != 0
        scored, locked = changed[~placed], changed[placed]
        for i, score in zip(scored.tolist(), games[scored, layout.SCORE].tolist(), strict=True):
            idle_infos[i]["score"] = score
        locks = list(zip(locked.tolist(), info_rows(games, locked), strict=True))
        for i, row in locks:
            update_idle_info(idle_infos[i], row)
        infos = [idle.copy() for idle in idle_infos]
        for i, row in locks:
            info = infos[i]
            info["piece_placed"] = True
            info["lines_cleared"] = row[0]
        self._add_masks(infos, self._batch.everyone)
        return infos

    def _add_masks(self, infos: list[dict[str, Any]], chosen: Indices) -> None:
        batch = self._batch
        if not batch.direct:
            invalid = (batch.games[chosen, layout.INVALID] == 1).tolist()
            for info, mask, invalid_action in zip(infos, batch.masks[chosen], invalid, strict=True):
                info["action_mask"] = mask
                info["invalid_action"] = invalid_action

    def _finish(self, done: Indices, infos: list[dict[str, Any]]) -> None:
        """Complete the infos of games that have ended, and begin the next ones."""
        batch = self._batch
        seconds = round(time.time() - self._start, 6)
        numbers = done.tolist()
        ends = zip(
            numbers,
            batch.terminated[done].tolist(),
            batch.observations_of(done),
            self._returns[done].tolist(),
            batch.games[done, layout.STEPS].tolist(),
            strict=True,
        )
        for i, terminated, observation, episode_return, length in ends:
            info = infos[i]
            info["game_over"] = terminated
            info["TimeLimit.truncated"] = not terminated
            info["terminal_observation"] = observation
            info["episode"] = {"r": round(episode_return, 6), "l": length, "t": seconds}
        self._returns[done] = 0.0
        batch.begin(done)
        self._take_over(done)

    def _take_over(self, chosen: Indices) -> None:
        """Begin the infos of games that have begun, or were put in place of others."""
        infos = [read_info(row) for row in info_rows(self._batch.games, chosen)]
        for i, info in zip(chosen.tolist(), infos, strict=True):
            self.reset_infos[i] = info
            self._idle_infos[i] = {**idle_info(info), "TimeLimit.truncated": False}
        self._add_masks(infos, chosen)

    def action_masks(self) -> NDArray[np.bool_]:
        """
        :return: the masks of all games, shape (num_envs, actions)
        """
        return self._batch.action_masks()

    def get_state(self) -> tuple[list[Snapshot], NDArray[np.float64]]:
        """
        :return: all that the future of all games depends on, and the returns of the running episodes
        """
        return self._batch.get_state(), self._returns.copy()

    def set_state(self, state: tuple[Sequence[Snapshot], NDArray[np.float64]]) -> None:
        """
        :param state: what :meth:`get_state` returned
        """
        self._returns = self._batch.set_state(state, np.float64)
        self._take_over(self._batch.everyone)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """
        :param method_name: a method of :class:`~tetris_gym.env.TetrisEnv`, but not "step", "reset" or "close"
        :param indices: numbers of games; None for all
        :return: its result for each game
        """
        if method_name in _NOT_THROUGH_ENV_METHOD:
            raise ValueError(f"{method_name}() works on all games at once: call it on the TetrisVecEnv.")
        if method_name == "action_masks" and not method_args and not method_kwargs:
            masks = self.action_masks()
            return [masks[i] for i in self._get_indices(indices)]
        chosen = list(self._get_indices(indices))
        results = [getattr(self._batch.env(i), method_name)(*method_args, **method_kwargs) for i in chosen]
        if method_name == "set_state":
            self._batch.refresh()
            self._take_over(np.array(chosen))
        return results

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """
        :param attr_name: an attribute of :class:`~tetris_gym.env.TetrisEnv`
        :param indices: numbers of games; None for all
        :return: its value for each game
        """
        return [getattr(self._batch.env(i), attr_name) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """
        :param attr_name: an attribute of :class:`~tetris_gym.env.TetrisEnv` that can be set, such as "difficulty"
        :param value: its new value
        :param indices: numbers of games; None for all
        """
        for i in self._get_indices(indices):
            self._batch.set_attr(i, attr_name, value)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """
        :param wrapper_class: a wrapper
        :param indices: numbers of games; None for all
        :return: True for ``Monitor``, whose statistics the infos contain, and False for all others
        """
        return [issubclass(Monitor, wrapper_class) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Any]:
        """
        :return: a picture of each game
        """
        return self.env_method("render")

    def close(self) -> None:
        """Close the windows, if there are any."""
        self._batch.close()
