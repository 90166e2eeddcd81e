"""Many games as a native vector environment of Gymnasium."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from tetris_gym import layout
from tetris_gym.batch import GameBatch
from tetris_gym.env import Snapshot, TetrisEnv
from tetris_gym.infos import read_info_arrays
from tetris_gym.rewards import RewardMode
from tetris_gym.settings import MAX_DIFFICULTY, ActionMode, ObsType, Settings, as_integer, whole_number

StepResult = tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class TetrisVectorEnv(VectorEnv[Any, Any, Any]):
    """
    Many games that step in one compiled call: what ``gym.make_vec(..., vectorization_mode="vector_entry_point")``
    makes. Game ``i`` behaves as a single environment with its own seed, and infos are those of ``SyncVectorEnv``.

    :param num_envs: number of games
    :param action_mode: see :class:`~tetris_gym.env.TetrisEnv`, and for all others up to ``render_mode``
    :param max_episode_steps: steps after which an episode is truncated
    :param autoreset_mode: when a game that has ended begins anew: at the next step (whose action it ignores), at the
        same step (the last observation is then in ``infos["final_obs"]``), or only by ``reset``
    """

    def __init__(
        self,
        num_envs: int = 1,
        action_mode: ActionMode = "direct",
        reward_mode: RewardMode = "standard",
        obs_type: ObsType = "flat",
        pad_to: int | None = None,
        difficulty: int = 0,
        gravity_interval: int | None = None,
        render_mode: str | None = None,
        max_episode_steps: int = 10_000,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        settings = Settings(action_mode, reward_mode, obs_type, pad_to, difficulty, gravity_interval, render_mode)
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            modes = tuple(mode.value for mode in AutoresetMode)
            raise ValueError(f"Unknown autoreset_mode {autoreset_mode!r}: expected one of {modes}.") from None
        self._batch = GameBatch(num_envs, settings, max_episode_steps)
        self.num_envs = self._batch.num_envs
        self.render_mode = settings.render_mode
        self.metadata = {**TetrisEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_action_space = settings.action_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.single_observation_space = settings.observation_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._everyone = np.ones(self.num_envs, dtype=np.bool_)

    @property
    def observation_layout(self) -> dict[str, Any] | None:
        """What the numbers of a flat observation are, as plain data; None for other types of observation."""
        return self._batch.settings.observation_layout

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the games."""
        return tuple(self._batch.generators)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """
        Begin an episode in every game, or in those that ``options["reset_mask"]`` marks.

        :param seed: an integer (game ``i`` gets ``seed + i``), a seed for each game, or None to go on with the
            present generators
        :param options: None, or {"reset_mask": boolean array of shape (num_envs,)}
        :return: observations and infos
        :raises TypeError: if a seed is no integer
        :raises ValueError: if there are other options, or the number of seeds or marks is wrong
        """
        seeds = self._seeds(seed)
        marked = self._marked(options)
        chosen = np.flatnonzero(marked)
        self._batch.reset(chosen, [seeds[i] for i in chosen])
        self._ended[marked] = False
        return self._batch.observations(), self._infos(marked)

    def step(self, actions: Any) -> StepResult:
        """
        Play one action in every game.

        :param actions: integers of the action space, shape (num_envs,)
        :return: observations, rewards, terminations, truncations and infos
        :raises TypeError: if the actions are no integers
        :raises ValueError: if their shape is wrong, or one is out of range
        :raises ResetNeeded: before the first reset; with autoreset disabled, also after the end of an episode
        """
        batch = self._batch
        next_step = self.autoreset_mode == AutoresetMode.NEXT_STEP
        if self._ended.any() and self.autoreset_mode == AutoresetMode.DISABLED:
            raise ResetNeeded(
                f"Games {np.flatnonzero(self._ended).tolist()} are over: reset them before the next step."
            )
        batch.step(actions, self._ended if next_step else None)
        if next_step and self._ended.any():
            batch.begin(np.flatnonzero(self._ended))
            batch.rewards[self._ended] = 0.0
            batch.terminated[self._ended] = False
            batch.truncated[self._ended] = False
        ended = batch.terminated | batch.truncated
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            if ended.any():
                infos = self._final(ended)
                batch.begin(np.flatnonzero(ended))
        else:
            self._ended = ended
        infos.update(self._infos(self._everyone))
        results = batch.rewards.copy(), batch.terminated.copy(), batch.truncated.copy()
        return batch.observations(), *results, infos

    def action_masks(self) -> NDArray[np.bool_]:
        """
        :return: the masks of all games, shape (num_envs, actions)
        """
        return self._batch.action_masks()

    def set_difficulty(self, difficulty: int) -> None:
        """
        :param difficulty: the difficulty of all coming episodes, 0 to 10
        """
        self._batch.games[:, layout.DIFFICULTY] = whole_number(difficulty, "difficulty", 0, MAX_DIFFICULTY)

    def get_state(self) -> tuple[list[Snapshot], NDArray[np.bool_]]:
        """
        :return: all that the future of all games depends on
        """
        return self._batch.get_state(), self._ended.copy()

    def set_state(self, state: tuple[Sequence[Snapshot], NDArray[np.bool_]]) -> None:
        """
        :param state: what :meth:`get_state` returned
        """
        self._ended = self._batch.set_state(state, np.bool_)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """
        :param name: an attribute or a method of :class:`~tetris_gym.env.TetrisEnv`, but not "step", "reset" or "close"
        :return: its value or result for each game
        """
        if name in ("step", "reset", "close"):
            raise ValueError(f"{name}() works on all games at once: call it on the TetrisVectorEnv.")
        values = [getattr(self._batch.env(i), name) for i in range(self.num_envs)]
        results = tuple(value(*args, **kwargs) if callable(value) else value for value in values)
        if name == "set_state":
            self._batch.refresh()
        return results

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """
        :param name: an attribute of :class:`~tetris_gym.env.TetrisEnv`
        :return: its value for each game
        """
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """
        :param name: an attribute of :class:`~tetris_gym.env.TetrisEnv` that can be set, such as "difficulty"
        :param values: a list or tuple with a value for each game, or one value for all
        """
        if not isinstance(values, list | tuple):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(f"set_attr() expects {self.num_envs} values, got {len(values)}.")
        for i, value in enumerate(values):
            self._batch.set_attr(i, name, value)

    def render(self) -> tuple[Any, ...]:
        """
        :return: a picture of each game
        """
        return self.call("render")

    def close_extras(self, **kwargs: Any) -> None:
        """Close the windows, if there are any."""
        self._batch.close()

    def _seeds(self, seed: Any) -> list[int | None]:
        """A seed for each game, or None."""
        if seed is None:
            return [None] * self.num_envs
        try:
            if not isinstance(seed, Sequence | np.ndarray):
                first = as_integer(seed)
                return [first + i for i in range(self.num_envs)]
            seeds = [None if one is None else as_integer(one) for one in seed]
        except TypeError:
            expected = f"an integer as seed, or {self.num_envs} of them"
            raise TypeError(f"reset() expects {expected}, got {seed!r}.") from None
        if len(seeds) != self.num_envs:
            raise ValueError(f"reset() expects {self.num_envs} seeds, got {len(seeds)}.")
        return seeds

    def _marked(self, options: dict[str, Any] | None) -> NDArray[np.bool_]:
        unknown = set(options or ()) - {"reset_mask"}
        if unknown:
            raise ValueError(f'The only reset option is "reset_mask", got {sorted(unknown)}.')
        if not options:
            return self._everyone
        marked = np.asarray(options["reset_mask"])
        if marked.dtype != np.bool_ or marked.shape != (self.num_envs,) or not marked.any():
            raise ValueError(f'"reset_mask" must be a boolean array of shape ({self.num_envs},) with a True in it.')
        return marked

    def _infos(self, present: NDArray[np.bool_]) -> dict[str, Any]:
        """The infos of some games; zeros stand for the others."""
        arrays = read_info_arrays(self._batch.games)
        if not self._batch.direct:
            arrays["action_mask"] = self._batch.masks
            arrays["invalid_action"] = self._batch.games[:, layout.INVALID] == 1
        marks = np.empty((len(arrays), self.num_envs), dtype=np.bool_)
        marks[:] = present
        infos: dict[str, Any] = {}
        for (key, values), mark in zip(arrays.items(), marks, strict=True):
            if present is not self._everyone:
                values = values.copy()
                values[~present] = 0
            infos[key] = values
            infos[f"_{key}"] = mark
        return infos

    def _final(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        """What the infos say of episodes that have just ended."""
        observations = np.full(self.num_envs, None, dtype=object)
        chosen = np.flatnonzero(ended)
        for i, observation in zip(chosen.tolist(), self._batch.observations_of(chosen), strict=True):
            observations[i] = observation
        return {
            "final_obs": observations,
            "_final_obs": ended,
            "final_info": self._infos(ended),
            "_final_info": ended.copy(),
        }
