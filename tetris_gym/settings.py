"""What a user may ask of an environment, checked in one place for one environment and for many."""

from __future__ import annotations

import operator
from copy import deepcopy
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from tetris_gym.engine import NUM_ACTIONS
from tetris_gym.observations import FLAT_LAYOUT, FLAT_SIZE, dict_space, flat_space
from tetris_gym.pieces import GARBAGE, HIDDEN_ROWS, NUM_COLUMNS, NUM_ROTATIONS, NUM_ROWS
from tetris_gym.placements import NUM_PLACEMENTS
from tetris_gym.rendering import TetrisRenderer, frame_shape
from tetris_gym.rewards import RewardMode, parse_reward_mode
from tetris_gym.views import OBSERVED_CELL

ActionMode = Literal["direct", "placement"]
ObsType = Literal["flat", "dict", "rgb"]

MAX_DIFFICULTY: Final = 10
MAX_INTEGER: Final = 2**63 - 1  #: of what compiled code counts


def as_integer(value: Any) -> int:
    """
    :param value: an integer of any type; to Python True and False are integers, here they are not
    :return: the value as an int
    :raises TypeError: if it is no integer
    """
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{value!r} is no integer.")
    return operator.index(value)


def whole_number(value: Any, name: str, lowest: int, highest: int | None = None) -> int:
    """
    :param value: what the user gave
    :param name: what it is called
    :param lowest: the smallest number allowed
    :param highest: the greatest number allowed
    :return: the value as an int
    :raises TypeError: if it is no integer
    :raises ValueError: if it is out of range
    """
    limits = f"an integer from {lowest} to {highest}" if highest is not None else f"an integer of at least {lowest}"
    try:
        number = as_integer(value)
    except TypeError:
        raise TypeError(f"{name} must be {limits}, got {value!r}.") from None
    if number < lowest or (highest is not None and number > highest):
        raise ValueError(f"{name} must be {limits}, got {value!r}.")
    return number


def _one_of(value: Any, name: str, choices: tuple[str, ...]) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"Unknown {name} {value!r}: expected one of {choices}.")
    return value


def as_field(options: dict[str, Any] | None) -> NDArray[np.uint8] | None:
    """
    :param options: of a reset
    :return: the stack that they ask for, with its hidden rows, shape (24, 10); None for an empty one
    :raises ValueError: if there is any other option, or no game can begin with that stack
    """
    if not options:
        return None
    if set(options) != {"field"}:
        raise ValueError(f'reset() knows no options but "field", got {options!r}.')
    field = np.asarray(options["field"])
    expected = f"The option field must be {NUM_ROWS} x {NUM_COLUMNS} integers from 0 to {GARBAGE}"
    if field.shape != (NUM_ROWS, NUM_COLUMNS) or field.dtype.kind not in "iu":
        raise ValueError(f"{expected}, got {field.dtype} of shape {field.shape}.")
    if field.min() < 0 or field.max() > GARBAGE:
        raise ValueError(f"{expected}, got {field.min()} to {field.max()}.")
    if field[:2].any():
        raise ValueError("The option field leaves no room for a piece: its two highest rows must be empty.")
    if field.all(axis=1).any():
        raise ValueError("The option field has a full row, which a game would have cleared.")
    return np.pad(field.astype(np.uint8), ((HIDDEN_ROWS, 0), (0, 0)))


class Settings:
    """
    The keyword arguments that all forms of the environment share, checked.

    :param action_mode: "direct" (8 primitive actions) or "placement" (800 resting places)
    :param reward_mode: "standard", "lines_only" or a callable that takes an :class:`~tetris_gym.outcome.Outcome`
    :param obs_type: "flat" (206 numbers), "dict" or "rgb"
    :param pad_to: size of the flat observation, zeros beyond 206; None for no padding
    :param difficulty: 0 to 10: rows of garbage, and faster gravity
    :param gravity_interval: steps per row of gravity at every difficulty; None leaves it to the difficulty
    :param render_mode: "human", "rgb_array", "ansi" or None
    :raises TypeError: if a number is none
    :raises ValueError: if a value is none of those allowed
    """

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
        self.action_mode: ActionMode = _one_of(action_mode, "action_mode", get_args(ActionMode))
        self.obs_type: ObsType = _one_of(obs_type, "obs_type", get_args(ObsType))
        self.reward_mode = reward_mode
        self.reward_code, self.reward_function = parse_reward_mode(reward_mode)
        if pad_to is not None and obs_type != "flat":
            raise ValueError(f'pad_to needs obs_type="flat", got obs_type={obs_type!r}.')
        self.flat_size = FLAT_SIZE if pad_to is None else whole_number(pad_to, "pad_to", FLAT_SIZE)
        self.difficulty = whole_number(difficulty, "difficulty", 0, MAX_DIFFICULTY)
        self.gravity_interval = (
            None if gravity_interval is None else whole_number(gravity_interval, "gravity_interval", 1, MAX_INTEGER)
        )
        if render_mode is not None:
            _one_of(render_mode, "render_mode", tuple(TetrisRenderer.metadata["render_modes"]))
        self.render_mode = render_mode

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return NUM_ACTIONS if self.action_mode == "direct" else NUM_PLACEMENTS

    @property
    def observation_layout(self) -> dict[str, Any] | None:
        """What the numbers of a flat observation are, as plain data; None for other types of observation."""
        if self.obs_type != "flat":
            return None
        layout = deepcopy(FLAT_LAYOUT)
        if self.action_mode == "placement":
            layout["actions"] = {"rows": NUM_ROWS, "columns": NUM_COLUMNS, "depth": NUM_ROTATIONS}
        return layout

    @cached_property
    def action_space(self) -> spaces.Discrete:
        """The action space of one game."""
        return spaces.Discrete(self.num_actions)

    @cached_property
    def observation_space(self) -> spaces.Space[Any]:
        """The observation space of one game."""
        if self.obs_type == "flat":
            return flat_space(self.flat_size)
        if self.obs_type == "dict":
            return dict_space()
        return spaces.Box(0, 255, shape=frame_shape(OBSERVED_CELL), dtype=np.uint8)
