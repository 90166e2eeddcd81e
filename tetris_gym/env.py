"""One game as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from tetris_gym import engine, kernels, layout, placements
from tetris_gym.infos import INFO_COLUMNS, idle_info, read_info
from tetris_gym.outcome import Outcome, read_outcome
from tetris_gym.rendering import Scene, TetrisRenderer
from tetris_gym.rewards import CUSTOM, RewardMode, evaluate
from tetris_gym.settings import MAX_DIFFICULTY, ActionMode, ObsType, Settings, as_field, as_integer, whole_number
from tetris_gym.views import new_painter, observe_dicts, observe_picture, read_scene

_THIS = np.zeros(1, dtype=np.int64)
_NO_OBSERVATION = np.empty((1, 0), dtype=np.float32)


class Snapshot(NamedTuple):
    """
    A game at one moment, with all the randomness of its future.

    :param game: the game's row, with its random stream: all that the rest of the episode depends on
    :param generator: the state of the environment's ``np_random``, from which the next episodes are seeded
    """

    game: NDArray[np.int64]
    generator: dict[str, Any]


def require_snapshot(state: Any) -> None:
    """
    :param state: what a user wants to go back to
    :raises TypeError: if it is no snapshot
    """
    if not isinstance(state, Snapshot) or np.shape(state.game) != (layout.STATE_SIZE,):
        raise TypeError(f"set_state() expects what get_state() returned, got {type(state).__name__}.")


class TetrisEnv(gym.Env[Any, Any]):
    """
    Tetris by the guideline: SRS with wall kicks, 7-bag, hold, and either primitive actions or placements.

    ``action_mode="direct"``: 0 left, 1 right, 2 soft drop, 3 and 4 turn clockwise and counter-clockwise, 5 hard drop,
    6 hold, 7 nothing. ``action_mode="placement"``: action ``y*40 + x*4 + r`` puts the current piece to rest in rotation
    ``r`` with the top-left corner of the rectangle around its cells at row ``y`` and column ``x``.

    The flat observation is 206 float32 numbers, 0 or 1: the field of 20 x 10 cells, then the ids of the current and
    the next piece in 3 bits each, lowest bit first.

    :param action_mode: "direct" (8 primitive actions) or "placement" (800 resting places)
    :param reward_mode: "standard", "lines_only" or a callable that takes an :class:`~tetris_gym.outcome.Outcome`
    :param obs_type: "flat", "dict" (stack, falling piece, current, preview, hold, can_hold) or "rgb" (a picture)
    :param pad_to: size of the flat observation, zeros beyond 206; None for no padding
    :param difficulty: 0 to 10: rows of garbage, and faster gravity
    :param gravity_interval: steps per row of gravity at every difficulty; None leaves it to the difficulty
    :param render_mode: "human", "rgb_array", "ansi" or None
    :raises TypeError: if a number is none
    :raises ValueError: if a value is none of those allowed
    """

    metadata: ClassVar[dict[str, Any]] = TetrisRenderer.metadata  # type: ignore[misc]

    def __init__(
        self,
        action_mode: ActionMode = "direct",
        reward_mode: RewardMode = "standard",
        obs_type: ObsType = "flat",
        pad_to: int | None = None,
        difficulty: int = 0,
        gravity_interval: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        settings = Settings(action_mode, reward_mode, obs_type, pad_to, difficulty, gravity_interval, render_mode)
        self._adopt(settings, layout.new_games(1, settings.difficulty, settings.gravity_interval))

    @classmethod
    def over(cls, settings: Settings, game: NDArray[np.int64], generator: np.random.Generator) -> TetrisEnv:
        """
        :param settings: the settings of a batch of games
        :param game: the row of one of them, shape (STATE_SIZE,)
        :param generator: its generator
        :return: an environment that shares both: what it does, it does to the batch
        """
        env = cls.__new__(cls)
        env._adopt(settings, game[None])
        env._np_random = generator
        return env

    def _adopt(self, settings: Settings, games: NDArray[np.int64]) -> None:
        self._settings = settings
        self._games = games
        self._game = games[0]
        self._direct = settings.action_mode == "direct"
        self._flat_size = settings.flat_size if settings.obs_type == "flat" else 0
        self._reward_code = settings.reward_code
        self._resting = placements.new_resting_places(1)
        self._idle_info: dict[str, Any] = {}
        self._renderer: TetrisRenderer | None = None
        self._painter = new_painter() if settings.obs_type == "rgb" else None
        self.render_mode = settings.render_mode
        self.action_space = settings.action_space
        self.observation_space = settings.observation_space

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copies and pickles make two arrays of the games and the view of the first one.
        self.__dict__.update(state)
        self._game = self._games[0]

    # What the user set

    @property
    def action_mode(self) -> ActionMode:
        """ "direct" or "placement"."""
        return self._settings.action_mode

    @property
    def reward_mode(self) -> RewardMode:
        """The reward mode that the environment was made with."""
        return self._settings.reward_mode

    @property
    def obs_type(self) -> ObsType:
        """ "flat", "dict" or "rgb"."""
        return self._settings.obs_type

    @property
    def observation_layout(self) -> dict[str, Any] | None:
        """What the numbers of a flat observation are, as plain data; None for other types of observation."""
        return self._settings.observation_layout

    @property
    def difficulty(self) -> int:
        """The difficulty from the next reset on."""
        return int(self._game[layout.DIFFICULTY])

    @difficulty.setter
    def difficulty(self, difficulty: int) -> None:
        self.set_difficulty(difficulty)

    @property
    def gravity_interval(self) -> int:
        """Steps per row of gravity in this episode; 0 before the first reset."""
        return int(self._game[layout.GRAVITY_INTERVAL])

    def set_difficulty(self, difficulty: int) -> None:
        """
        Set the difficulty of the coming episodes.

        :param difficulty: 0 to 10: that many rows of garbage, and faster gravity unless an interval was given
        :raises TypeError: if it is no integer
        :raises ValueError: if it is out of range
        """
        self._game[layout.DIFFICULTY] = whole_number(difficulty, "difficulty", 0, MAX_DIFFICULTY)

    # Gymnasium

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Begin an episode.

        :param seed: seed of the environment's generator; None goes on with the present one
        :param options: None, or {"field": the stack to begin with}: cell values of shape (20, 10), the highest row
            first, 0 where a cell is empty, 1 to 7 the cells of pieces, 8 garbage. No row may be full, and the two
            highest are empty
        :return: the first observation and its info
        :raises ValueError: if there is any other option, or no game can begin with that stack
        """
        field = as_field(options)
        super().reset(seed=seed)
        seeds = self.np_random.integers(0, 2**64, size=1, dtype=np.uint64).view(np.int64)
        observation = np.empty((1, self._flat_size), dtype=np.float32)
        kernels.reset_games(self._games, _THIS, seeds, observation)
        if field is not None:
            engine.write_field(self._game, field)
            kernels.observe_flat(self._games, observation)
        info = self._changed_info()
        if self.render_mode == "human":
            self.render()
        return (observation[0] if self._flat_size else self._observe()), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """
        Play one action.

        :param action: an integer of the action space
        :return: observation, reward, terminated, truncated (always False here), info
        :raises TypeError: if the action is no integer
        :raises ValueError: if it is out of range
        :raises ResetNeeded: before the first reset, and after the end of an episode
        """
        if type(action) is not int:
            action = self._as_action(action)
        observation: Any = np.empty(self._flat_size, np.float32)
        try:
            if self._direct:
                flags, reward = kernels.step_game(self._game, action, self._reward_code, observation)
            else:
                flags, reward = kernels.step_placement(
                    self._game, self._resting[0], action, self._reward_code, observation
                )
        except OverflowError:  # compiled code knows no such integer
            flags = kernels.NO_SUCH_ACTION
        if flags < 0:
            self._refuse(flags, action)
        info = self._idle_info.copy() if flags == 0 else self._changed_info()
        if self._reward_code == CUSTOM:
            reward = evaluate(self._settings.reward_function, self.outcome())
        if not self._flat_size:
            observation = self._observe()
        if self.render_mode == "human":
            self.render()
        return observation, reward, flags >= kernels.OVER, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """
        :return: which actions would change something (direct) or are reachable (placement), shape (actions,);
            every one if the game is over or, in placement mode, nothing is reachable
        :raises ResetNeeded: before the first reset
        """
        self._require_game()
        return self._masks()

    def render(self) -> Any:
        """
        :return: by the render mode, a picture of shape (height, width, 3), text, or None
        :raises ResetNeeded: before the first reset
        """
        if self.render_mode is None:
            gym.logger.warn('render() draws nothing without a render_mode: gym.make(..., render_mode="rgb_array").')
            return None
        if self._renderer is None:
            self._renderer = TetrisRenderer(self.render_mode)
        return self._renderer.draw(self.scene())

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # Planning and pictures

    def get_state(self) -> Snapshot:
        """
        :return: a copy of the game with all the randomness of its future; see :meth:`set_state`
        """
        return Snapshot(self._game.copy(), dict(self.np_random.bit_generator.state))

    def set_state(self, state: Snapshot) -> None:
        """
        Go back to a snapshot, or on from another environment's: the same actions have the same consequences from
        there, the following episodes included. Gymnasium's ``TimeLimit`` is not part of it: it counts by itself.

        :param state: what :meth:`get_state` returned; it stays as it is and can be restored again
        :raises TypeError: if it is something else
        """
        require_snapshot(state)
        self.np_random.bit_generator.state = state.generator
        self._game[:] = state.game
        self._changed_info()

    def outcome(self) -> Outcome:
        """
        :return: what the last step did, as reward functions get it
        """
        return read_outcome(self._game.tolist())

    def scene(self) -> Scene:
        """
        :return: what a picture of the game shows
        :raises ResetNeeded: before the first reset
        """
        self._require_game()
        return read_scene(self._game)

    # Parts of a step

    def _changed_info(self) -> dict[str, Any]:
        """The info of a step on which something happened, or of the beginning of a game."""
        info = read_info(self._game[INFO_COLUMNS].tolist())
        self._idle_info = idle_info(info)
        return info if self._direct else self._with_mask(info)

    def _masks(self) -> NDArray[np.bool_]:
        masks = np.empty((1, self._settings.num_actions), dtype=np.bool_)
        if self._direct:
            kernels.mask_actions(self._games, masks)
        else:
            kernels.mask_placements(self._games, self._resting, _THIS, masks)
        return masks[0]

    def _with_mask(self, info: dict[str, Any]) -> dict[str, Any]:
        info["action_mask"] = self._masks()
        info["invalid_action"] = bool(self._game[layout.INVALID])
        return info

    def _observe(self) -> Any:
        if self._painter is not None:
            return observe_picture(self._painter, self._game)
        return {key: values[0] for key, values in observe_dicts(self._games).items()}

    def _as_action(self, action: Any) -> int:
        try:
            return as_integer(action)
        except TypeError:
            expected = f"an integer from 0 to {self._settings.num_actions - 1}"
            raise TypeError(f"An action must be {expected}, got {action!r} of type {type(action).__name__}.") from None

    def _require_game(self) -> None:
        if self._game[layout.RUNNING] == 0 and self._game[layout.GAME_OVER] == 0:
            raise ResetNeeded("Call reset() before anything else.")

    def _refuse(self, error: int, action: int) -> NoReturn:
        if error == kernels.NO_SUCH_ACTION:
            raise ValueError(f"An action must be an integer from 0 to {self._settings.num_actions - 1}, got {action}.")
        self._require_game()
        raise ResetNeeded("The game is over: call reset() before the next step().")
