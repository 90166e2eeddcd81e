"""The compiled functions that environments call: a whole step, for one game or for many, is one call.

Flat observations are written on the way where there is room for them: an array of size 0 asks for none.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tetris_gym import engine, layout, placements, rewards
from tetris_gym.compiling import compiled, entry_point
from tetris_gym.engine import NUM_ACTIONS
from tetris_gym.layout import GAME_OVER, PIECE_PLACED, RUNNING, SCORE, STEPS, Game
from tetris_gym.movement import SHAPES, landing_row
from tetris_gym.observations import write_dict, write_flat
from tetris_gym.outcome import read_outcome
from tetris_gym.pieces import CELLS, NO_PIECE
from tetris_gym.placements import NUM_PLACEMENTS

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Flags = NDArray[np.bool_]

# What a step returns to Python: a sum of these flags, or one of the two errors.
CHANGED: Final = 1  #: the info differs from that of a step that did nothing
OVER: Final = 2
NO_SUCH_ACTION: Final = -1
NOT_RUNNING: Final = -2


@compiled
def _reward(game: Game, reward_mode: int) -> float:
    if reward_mode == rewards.STANDARD and (game[PIECE_PLACED] != 0 or game[GAME_OVER] != 0):
        return rewards.standard(read_outcome(game))
    if reward_mode == rewards.LINES_ONLY and game[PIECE_PLACED] != 0:
        return rewards.lines_only(read_outcome(game))
    return 0.0


@compiled
def _find_error(games: Game, actions: Integers, skip: Flags, num_actions: int) -> int:
    """0 or, of the first game that cannot play its action, the error and the number: ``error - 2 * number``."""
    for i in range(actions.size):
        if not skip[i]:
            if actions[i] < 0 or actions[i] >= num_actions:
                return NO_SUCH_ACTION - 2 * i
            if games[i, RUNNING] == 0:
                return NOT_RUNNING - 2 * i
    return 0


@entry_point
def reset_games(games: Game, chosen: Integers, seeds: Integers, observations: Pixels) -> None:
    """Begin an episode in the chosen games."""
    for k in range(chosen.size):
        i = chosen[k]
        engine.reset(games[i], seeds[k])
        if observations.size > 0:
            write_flat(games[i], observations[i])


# One game


@entry_point
def step_game(game: Game, action: int, reward_mode: int, observation: Pixels) -> tuple[int, float]:
    """Play one primitive action: (flags or error, reward)."""
    if action < 0 or action >= NUM_ACTIONS:
        return NO_SUCH_ACTION, 0.0
    if game[RUNNING] == 0:
        return NOT_RUNNING, 0.0
    score = game[SCORE]
    engine.step(game, action)
    if observation.size > 0:
        write_flat(game, observation)
    if game[GAME_OVER] != 0:
        return CHANGED | OVER, _reward(game, reward_mode)
    if game[PIECE_PLACED] != 0 or game[SCORE] != score:
        return CHANGED, _reward(game, reward_mode)
    return 0, 0.0


@entry_point
def step_placement(
    game: Game, resting: Integers, action: int, reward_mode: int, observation: Pixels
) -> tuple[int, float]:
    """Play one placement, among the resting places that :func:`mask_placements` has found: (flags or error, reward)."""
    if action < 0 or action >= NUM_PLACEMENTS:
        return NO_SUCH_ACTION, 0.0
    if game[RUNNING] == 0:
        return NOT_RUNNING, 0.0
    placements.place(game, resting, action)
    if observation.size > 0:
        write_flat(game, observation)
    return CHANGED | (OVER if game[GAME_OVER] != 0 else 0), _reward(game, reward_mode)


# Many games


@entry_point
def step_games(
    games: Game,
    actions: Integers,
    skip: Flags,
    reward_mode: int,
    max_steps: int,
    observations: Pixels,
    rewards_out: Floats,
    terminated: Flags,
    truncated: Flags,
    changed: Integers,
) -> int:
    """
    Play one primitive action in every game but those to skip. The numbers of the games whose info changed go into the
    beginning of ``changed``; returns how many those are, or what :func:`_find_error` says.
    """
    error = _find_error(games, actions, skip, NUM_ACTIONS)
    if error != 0:
        return error
    count = 0
    for i in range(actions.size):
        if skip[i]:
            continue
        game = games[i]
        score = game[SCORE]
        engine.step(game, actions[i])
        rewards_out[i] = _reward(game, reward_mode)
        terminated[i] = game[GAME_OVER] != 0
        truncated[i] = game[STEPS] >= max_steps
        if game[PIECE_PLACED] != 0 or game[SCORE] != score or game[GAME_OVER] != 0:
            changed[count] = i
            count += 1
        if observations.size > 0:
            write_flat(game, observations[i])
    return count


@entry_point
def step_placements(
    games: Game,
    resting: Integers,
    actions: Integers,
    skip: Flags,
    reward_mode: int,
    max_steps: int,
    observations: Pixels,
    rewards_out: Floats,
    terminated: Flags,
    truncated: Flags,
    masks: Flags,
) -> int:
    """
    Play one placement in every game but those to skip, and find the next resting places; returns 0 or what
    :func:`_find_error` says.
    """
    error = _find_error(games, actions, skip, NUM_PLACEMENTS)
    if error != 0:
        return error
    room = placements.new_room()
    for i in range(actions.size):
        if skip[i]:
            continue
        game = games[i]
        placements.place(game, resting[i], actions[i])
        rewards_out[i] = _reward(game, reward_mode)
        terminated[i] = game[GAME_OVER] != 0
        truncated[i] = game[STEPS] >= max_steps
        if observations.size > 0:
            write_flat(game, observations[i])
        placements.find_resting_places(game, resting[i], room)
        placements.write_mask(game, resting[i], masks[i])
    return 0


@entry_point
def mask_placements(games: Game, resting: Integers, chosen: Integers, masks: Flags) -> None:
    """Write the resting places and masks of the chosen games."""
    room = placements.new_room()
    for k in range(chosen.size):
        i = chosen[k]
        placements.find_resting_places(games[i], resting[i], room)
        placements.write_mask(games[i], resting[i], masks[i])


@entry_point
def mask_actions(games: Game, masks: Flags) -> None:
    """Write which primitive actions would change something, for each game."""
    for i in range(masks.shape[0]):
        engine.useful_actions(games[i], masks[i])


# Observations and pictures


@entry_point
def observe_flat(games: Game, observations: Pixels) -> None:
    """Write the flat observation of each game."""
    if observations.size > 0:
        for i in range(games.shape[0]):
            write_flat(games[i], observations[i])


@entry_point
def observe_dict(games: Game, stacks: NDArray[Any], falling_pieces: NDArray[Any], numbers: Integers) -> None:
    """Write the parts of a dictionary observation of each game."""
    for i in range(games.shape[0]):
        write_dict(games[i], stacks[i], falling_pieces[i], numbers[i])


@entry_point
def describe_game(game: Game, coming: Integers, cells: Integers) -> None:
    """Write the coming pieces, and the (row, column) of the falling piece's cells and of its ghost's."""
    engine.preview(game, coming)
    piece, rotation = game[layout.PIECE], game[layout.ROTATION]
    if piece != NO_PIECE:
        x, y = game[layout.X], game[layout.Y]
        landing = y
        if game[RUNNING] != 0:
            landing = landing_row(game, SHAPES[piece, rotation], x, y)
        for i in range(4):
            row, column = CELLS[piece, rotation, i]
            cells[0, i, 0] = row + y
            cells[1, i, 0] = row + landing
            cells[0, i, 1] = cells[1, i, 1] = column + x
