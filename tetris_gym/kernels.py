"""The compiled functions that environments call: a whole step, for one game or for many, is one call."""

from __future__ import annotations

from typing import Final

import numpy as np

from tetris_gym import engine, placements, rewards
from tetris_gym.compiling import compiled, entry_point
from tetris_gym.engine import GAME_OVER, NUM_ACTIONS, PIECE_PLACED, RUNNING, SCORE, STEPS, read_outcome
from tetris_gym.observations import write_dict, write_flat
from tetris_gym.pieces import CELLS, NO_PIECE
from tetris_gym.placements import NUM_PLACEMENTS, SEARCH_ROWS

# What a step returns to Python: a sum of these flags, or one of the two errors.
CHANGED: Final = 1  #: the info differs from that of a step that did nothing
OVER: Final = 2
NO_SUCH_ACTION: Final = -1
NOT_RUNNING: Final = -2

_read_outcome = compiled(read_outcome)
_standard = compiled(rewards.standard)
_lines_only = compiled(rewards.lines_only)


@compiled
def _reward(game, reward_mode):  # type: ignore[no-untyped-def]
    if reward_mode == rewards.STANDARD and (game[PIECE_PLACED] != 0 or game[GAME_OVER] != 0):
        return _standard(_read_outcome(game))
    if reward_mode == rewards.LINES_ONLY and game[PIECE_PLACED] != 0:
        return _lines_only(_read_outcome(game))
    return 0.0


@entry_point
def step_game(game, action, reward_mode, observation):  # type: ignore[no-untyped-def]
    """Play one primitive action; write the flat observation (not, if it has size 0): (flags, reward)."""
    if action < 0 or action >= NUM_ACTIONS:
        return NO_SUCH_ACTION, 0.0
    if game[RUNNING] == 0:
        return NOT_RUNNING, 0.0
    score = game[SCORE]
    engine.step(game, action)
    if observation.size > 0:
        write_flat(game, observation)
    flags = 0
    if game[PIECE_PLACED] != 0 or game[SCORE] != score or game[GAME_OVER] != 0:
        flags = CHANGED | (OVER if game[GAME_OVER] != 0 else 0)
    return flags, _reward(game, reward_mode)


@entry_point
def step_placement(game, resting, action, reward_mode, observation):  # type: ignore[no-untyped-def]
    """Play one placement among the resting places that :func:`mask_placements` has found: see :func:`step_game`."""
    if action < 0 or action >= NUM_PLACEMENTS:
        return NO_SUCH_ACTION, 0.0
    if game[RUNNING] == 0:
        return NOT_RUNNING, 0.0
    placements.place(game, resting, action)
    if observation.size > 0:
        write_flat(game, observation)
    return CHANGED | (OVER if game[GAME_OVER] != 0 else 0), _reward(game, reward_mode)


@entry_point
def reset_games(games, chosen, seeds, observations):  # type: ignore[no-untyped-def]
    """Begin an episode in the chosen games."""
    for i in range(chosen.size):
        engine.reset(games[chosen[i]], seeds[i])
        if observations.size > 0:
            write_flat(games[chosen[i]], observations[chosen[i]])


@entry_point
def step_games(games, actions, skip, reward_mode, max_steps, observations, rewards_out, terminated, truncated, changed):  # type: ignore[no-untyped-def]
    """
    Play one primitive action in every game but those to skip. Writes observations, rewards and flags, and the
    numbers of the games whose info changed into the beginning of ``changed``; returns how many those are, or the
    error and the game: ``error - game * 2``.
    """
    for i in range(actions.size):
        if not skip[i]:
            if actions[i] < 0 or actions[i] >= NUM_ACTIONS:
                return NO_SUCH_ACTION - 2 * i
            if games[i, RUNNING] == 0:
                return NOT_RUNNING - 2 * i
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
def step_placements(games, resting, actions, skip, reward_mode, max_steps, observations, rewards_out, terminated, truncated, masks, changed):  # type: ignore[no-untyped-def]
    """Like :func:`step_games` for placements; also writes the next resting places and masks."""
    for i in range(actions.size):
        if not skip[i]:
            if actions[i] < 0 or actions[i] >= NUM_PLACEMENTS:
                return NO_SUCH_ACTION - 2 * i
            if games[i, RUNNING] == 0:
                return NOT_RUNNING - 2 * i
    search = np.empty((2, SEARCH_ROWS), dtype=np.int64)
    count = 0
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
        placements.find_resting_places(game, resting[i], search)
        placements.write_mask(game, resting[i], masks[i])
        changed[count] = i
        count += 1
    return count


@entry_point
def mask_placements(games, resting, chosen, masks):  # type: ignore[no-untyped-def]
    """Write the resting places and masks of the chosen games."""
    search = np.empty((2, SEARCH_ROWS), dtype=np.int64)
    for i in chosen:
        placements.find_resting_places(games[i], resting[i], search)
        placements.write_mask(games[i], resting[i], masks[i])


@entry_point
def mask_actions(games, masks):  # type: ignore[no-untyped-def]
    """Write which primitive actions would change something, for each game."""
    for i in range(masks.shape[0]):
        engine.useful_actions(games[i], masks[i])


@entry_point
def observe_flat(games, observations):  # type: ignore[no-untyped-def]
    """Write the flat observation of each game."""
    if observations.size > 0:
        for i in range(games.shape[0]):
            write_flat(games[i], observations[i])


@entry_point
def observe_dict(games, stacks, falling_pieces, numbers):  # type: ignore[no-untyped-def]
    """Write the parts of a dictionary observation of each game."""
    for i in range(games.shape[0]):
        write_dict(games[i], stacks[i], falling_pieces[i], numbers[i])


@entry_point
def describe_game(game, coming, cells):  # type: ignore[no-untyped-def]
    """Write the coming pieces, and the (row, column) of the falling piece's cells and of its ghost's."""
    engine.preview(game, coming)
    piece, rotation = game[engine.PIECE], game[engine.ROTATION]
    if piece != NO_PIECE:
        x, y = game[engine.X], game[engine.Y]
        landing = y
        if game[RUNNING] != 0:
            landing = engine.landing_row(game, engine.SHAPES[piece, rotation], x, y)
        for i in range(4):
            row, column = CELLS[piece, rotation, i]
            cells[0, i, 0] = row + y
            cells[1, i, 0] = row + landing
            cells[0, i, 1] = cells[1, i, 1] = column + x

