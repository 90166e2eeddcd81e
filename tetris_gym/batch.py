"""Many games at once: what the vector environments of Gymnasium and of Stable-Baselines3 have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from numpy.typing import NDArray

from tetris_gym import kernels, layout, placements
from tetris_gym.env import Snapshot, TetrisEnv, require_snapshot
from tetris_gym.outcome import read_outcome
from tetris_gym.rewards import CUSTOM, evaluate
from tetris_gym.settings import MAX_INTEGER, Settings, whole_number
from tetris_gym.views import new_painter, observe_dicts, observe_picture

Indices = NDArray[np.int64]


class GameBatch:
    """
    Games in the rows of one array, with the results of their last step.

    :param num_envs: number of games
    :param settings: what they have in common
    :param max_episode_steps: steps after which an episode is truncated
    """

    def __init__(self, num_envs: int, settings: Settings, max_episode_steps: int) -> None:
        self.num_envs = whole_number(num_envs, "num_envs", 1)
        self.max_episode_steps = whole_number(max_episode_steps, "max_episode_steps", 1, MAX_INTEGER)
        self.settings = settings
        self.direct = settings.action_mode == "direct"
        self.games = layout.new_games(self.num_envs, settings.difficulty, settings.gravity_interval)
        self.resting = placements.new_resting_places(0 if self.direct else self.num_envs)
        self.generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        self.everyone: Indices = np.arange(self.num_envs)
        self._flat_size = settings.flat_size if settings.obs_type == "flat" else 0
        self._painter = new_painter() if settings.obs_type == "rgb" else None
        self._nobody = np.zeros(self.num_envs, dtype=np.bool_)
        self._observations = self._new_observations()
        self.rewards = np.zeros(self.num_envs)
        self.terminated = np.zeros(self.num_envs, dtype=np.bool_)
        self.truncated = np.zeros(self.num_envs, dtype=np.bool_)
        self.masks = self._new_masks()
        self._changed = np.empty(self.num_envs, dtype=np.int64)
        self._envs: dict[int, TetrisEnv] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes its own environments over its own games.
        return {**self.__dict__, "_envs": {}}

    def reset(self, chosen: Indices, seeds: Sequence[int | None]) -> None:
        """
        Begin an episode in some games, at a user's word.

        :param chosen: their numbers
        :param seeds: for each of them a new seed of its generator, or None to go on with the present one
        """
        for i, seed in zip(chosen.tolist(), seeds, strict=True):
            if seed is not None:
                self.generators[i].bit_generator.state = seeding.np_random(seed)[0].bit_generator.state
        self._observations = self._observations.copy()  # the present ones are in the user's hands
        self.masks = self.masks.copy()
        self.begin(chosen)

    def begin(self, chosen: Indices) -> None:
        """
        Begin an episode in some games, and replace their observations and masks.

        :param chosen: their numbers
        """
        # A raw number of PCG64 is what integers(0, 2**64, dtype=uint64) returns, in a tenth of the time.
        drawn = [self.generators[i].bit_generator.random_raw() for i in chosen.tolist()]
        bits = np.array(drawn, dtype=np.uint64).view(np.int64)
        kernels.reset_games(self.games, chosen, bits, self._observations)
        if not self.direct:
            kernels.mask_placements(self.games, self.resting, chosen, self.masks)

    def step(self, actions: Any, skip: NDArray[np.bool_] | None = None) -> Indices:
        """
        Play one action in every game.

        :param actions: integers of the action space, shape (num_envs,)
        :param skip: games to leave as they are
        :return: the numbers of the games whose info may not be that of a step on which nothing happens
        :raises TypeError: if the actions are no integers
        :raises ValueError: if their shape is wrong, or one is out of range
        :raises ResetNeeded: if a game has not begun, or is over
        """
        self._observations = self._new_observations()
        arguments = (
            self._as_actions(actions),
            self._nobody if skip is None else skip,
            self.settings.reward_code,
            self.max_episode_steps,
            self._observations,
            self.rewards,
            self.terminated,
            self.truncated,
        )
        if self.direct:
            count = kernels.step_games(self.games, *arguments, self._changed)
        else:
            self.masks = self._new_masks()
            count = kernels.step_placements(self.games, self.resting, *arguments, self.masks)
        if count < 0:
            self._refuse(count, actions)
        if self.settings.reward_code == CUSTOM:
            self._reward_from_outcomes(skip)
        return self._changed[:count] if self.direct else self.everyone

    def observations(self) -> Any:
        """
        :return: the present observations of all games: an array, or a dictionary of arrays, that no later step changes
        """
        if self._flat_size:
            return self._observations
        return self._observe(self.games)

    def observations_of(self, chosen: Indices) -> list[Any]:
        """
        :param chosen: numbers of games
        :return: copies of their present observations
        """
        if self._flat_size:
            return list(self._observations[chosen])
        observations = self._observe(self.games[chosen])
        if isinstance(observations, dict):
            return [{key: values[i] for key, values in observations.items()} for i in range(len(chosen))]
        return list(observations)

    def action_masks(self) -> NDArray[np.bool_]:
        """
        :return: see :meth:`TetrisEnv.action_masks`, shape (num_envs, actions)
        :raises ResetNeeded: if a game has not begun
        """
        if (self.games[:, (layout.RUNNING, layout.GAME_OVER)] == 0).all(axis=1).any():
            raise ResetNeeded("Call reset() before action_masks().")
        if not self.direct:
            return self.masks.copy()
        masks = np.empty((self.num_envs, self.settings.num_actions), dtype=np.bool_)
        kernels.mask_actions(self.games, masks)
        return masks

    def env(self, i: int) -> TetrisEnv:
        """
        :param i: number of a game
        :return: the game as an environment that shares its state with this batch
        """
        if i not in self._envs:
            self._envs[i] = TetrisEnv.over(self.settings, self.games[i], self.generators[i])
        return self._envs[i]

    def get_state(self) -> list[Snapshot]:
        """
        :return: a snapshot of each game
        """
        return [self.env(i).get_state() for i in range(self.num_envs)]

    def set_state(self, state: Any, dtype: type[np.generic]) -> NDArray[Any]:
        """
        :param state: a pair: a snapshot for each game, and an array with a number for each, shape (num_envs,)
        :param dtype: of the numbers
        :return: a copy of the numbers, which are for the caller to restore
        :raises TypeError: if it is something else
        :raises ValueError: if they are too few or too many
        """
        if not isinstance(state, tuple | list) or len(state) != 2:
            raise TypeError(f"set_state() expects what get_state() returned, got {type(state).__name__}.")
        snapshots, numbers = state
        if not isinstance(numbers, np.ndarray) or numbers.dtype != dtype:
            raise TypeError(f"set_state() expects an array of {np.dtype(dtype)} beside the snapshots, got {numbers!r}.")
        if len(snapshots) != self.num_envs or numbers.shape != (self.num_envs,):
            raise ValueError(
                f"set_state() expects {self.num_envs} snapshots and numbers, "
                f"got {len(snapshots)} and an array of shape {numbers.shape}."
            )
        for snapshot in snapshots:
            require_snapshot(snapshot)
        for i, snapshot in enumerate(snapshots):
            self.env(i).set_state(snapshot)
        self.refresh()
        return numbers.copy()

    def set_attr(self, i: int, name: str, value: Any) -> None:
        """
        :param i: number of a game
        :param name: an attribute of :class:`TetrisEnv` that can be set
        :param value: its new value
        :raises AttributeError: if there is none of that name
        """
        env = self.env(i)
        if not hasattr(env, name):
            raise AttributeError(f"TetrisEnv has no attribute {name!r} to set.")
        setattr(env, name, value)

    def refresh(self) -> None:
        """Find out anew what depends on the games, after one of them was changed from outside."""
        self._observations = self._new_observations()
        kernels.observe_flat(self.games, self._observations)
        if not self.direct:
            self.masks = self._new_masks()
            kernels.mask_placements(self.games, self.resting, self.everyone, self.masks)

    def close(self) -> None:
        """Close the windows of the games."""
        for env in self._envs.values():
            env.close()

    def _new_observations(self) -> NDArray[np.float32]:
        return np.empty((self.num_envs, self._flat_size), dtype=np.float32)

    def _new_masks(self) -> NDArray[np.bool_]:
        return np.empty((0 if self.direct else self.num_envs, self.settings.num_actions), dtype=np.bool_)

    def _observe(self, games: layout.Game) -> Any:
        if self._painter is not None:
            return np.stack([observe_picture(self._painter, game) for game in games])
        return observe_dicts(games)

    def _reward_from_outcomes(self, skip: NDArray[np.bool_] | None) -> None:
        for i, game in enumerate(self.games.tolist()):
            if skip is None or not skip[i]:
                self.rewards[i] = evaluate(self.settings.reward_function, read_outcome(game))

    def _as_actions(self, actions: Any) -> NDArray[np.int64]:
        array = np.asarray(actions)
        # Beside integers in a list, NumPy takes True for 1.
        if isinstance(actions, list | tuple) and any(isinstance(action, bool | np.bool_) for action in actions):
            raise TypeError(f"{self._expected_actions()}, got a bool.")
        if array.dtype.kind not in "iu":
            raise TypeError(f"{self._expected_actions()}, got {array.dtype}.")
        if array.shape != (self.num_envs,):
            raise ValueError(f"{self._expected_actions()}, got shape {array.shape}.")
        return np.ascontiguousarray(array, dtype=np.int64)

    def _expected_actions(self) -> str:
        return f"Actions must be {self.num_envs} integers from 0 to {self.settings.num_actions - 1}"

    def _refuse(self, error: int, actions: Any) -> NoReturn:
        i, kind = divmod(-error - 1, 2)
        if -1 - kind == kernels.NO_SUCH_ACTION:
            raise ValueError(f"{self._expected_actions()}, got {actions[i]} for game {i}.")
        if self.games[i, layout.GAME_OVER] == 0:
            raise ResetNeeded("Call reset() before step().")
        raise ResetNeeded(f"Game {i} is over: it must be reset before the next step().")
