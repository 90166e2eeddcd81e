"""Properties that hold for every game, on games that hypothesis looks for."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tetris_gym.games import ENV_IDS, NEVER, copy_into
from tests.tetris_gym.reference import (
    CELLS,
    HARD_DROP,
    HEIGHT,
    HIDDEN,
    HOLD,
    NO_OP,
    SOFT_DROP,
    WIDTH,
    Board,
    ReferenceTetris,
    covered,
    spawn_pose,
)
from tetris_gym import TetrisEnv, layout

settings.register_profile("tetris", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("tetris")

seeds = st.integers(0, 2**32 - 1)
difficulties = st.integers(0, 10)
modes = st.sampled_from(sorted(ENV_IDS))
# Drops are frequent, so that pieces lock; placements are out of range of most rows, so drop from above as well.
primitive_actions = st.lists(st.sampled_from([*range(8), HARD_DROP, HARD_DROP, SOFT_DROP]), max_size=150)
placements = st.lists(st.integers(0, 799), max_size=60)
row = st.integers(0, 2**WIDTH - 2)  # never a full row
stacks = st.lists(st.one_of(row, st.sampled_from([2**WIDTH - 1 - 2**gap for gap in range(WIDTH)])), max_size=19)


def cells(state: np.ndarray) -> np.ndarray:
    """The stack as zeros and ones, hidden rows first: shape (24, 10)."""
    return (layout.read_field(state) > 0).astype(int)


def piece_cells(state: np.ndarray) -> list[tuple[int, int]]:
    """Row and column (of the 24 x 10 field) of each cell of the falling piece; none after a lock-out."""
    if state[layout.PIECE] < 0:
        return []
    shape = CELLS[int(state[layout.PIECE])][int(state[layout.ROTATION])]
    return [(int(state[layout.Y]) + y + HIDDEN, int(state[layout.X]) + x) for y, x in shape]


def statistics(field: np.ndarray) -> dict[str, int]:
    """The four statistics of a stack, in another way than the engine and the reference find them."""
    below_top = np.maximum.accumulate(field, axis=0)
    heights = below_top.sum(axis=0)
    return {
        "aggregate_height": heights.sum(),
        "holes": (below_top > field).sum(),
        "bumpiness": np.abs(np.diff(heights)).sum(),
        "max_height": heights.max(),
    }


def assert_valid(env: TetrisEnv, observation: np.ndarray, terminated: bool, info: dict) -> None:
    """What must be true of every state."""
    state = env.get_state().game
    field = cells(state)
    falling = piece_cells(state)
    assert env.observation_space.contains(observation)
    assert not field.all(axis=1).any(), "a full row has not been cleared"
    assert layout.read_field(state).max() <= 8
    assert all(0 <= y < HIDDEN + HEIGHT and 0 <= x < WIDTH for y, x in falling)
    overlaps = any(field[y, x] for y, x in falling)
    lock_out = field[:HIDDEN].any()
    assert terminated == info["game_over"] == bool(overlaps or lock_out)
    assert (not falling) == lock_out
    shown = field.copy()
    for y, x in falling:
        shown[y, x] = 1
    assert np.array_equal(observation[:200], shown[HIDDEN:].ravel())
    assert {key: info[key] for key in statistics(field)} == statistics(field)
    assert info["level"] == info["total_lines"] // 10
    assert 0 <= state[layout.BAG_LEFT] <= 6


@given(modes, seeds, difficulties, st.data())
def test_any_actions_keep_the_state_valid_and_the_cells_conserved(mode, seed, difficulty, data):
    env = gym.make(ENV_IDS[mode], difficulty=difficulty).unwrapped
    observation, info = env.reset(seed=seed)
    assert_valid(env, observation, False, info)
    count = 9 * difficulty
    assert cells(env.get_state().game).sum() == count
    for action in data.draw(primitive_actions if mode == "direct" else placements):
        pieces, lines = info["pieces_placed"], info["total_lines"]
        observation, _, terminated, _, info = env.step(action)
        assert_valid(env, observation, terminated, info)
        count += 4 * info["piece_placed"] - 10 * info["lines_cleared"]
        assert cells(env.get_state().game).sum() == count, "cells have come or gone"
        assert info["pieces_placed"] == pieces + info["piece_placed"]
        assert info["total_lines"] == lines + info["lines_cleared"]
        assert info["lines_cleared"] <= (4 if info["piece_placed"] else 0)
        if terminated:
            break


def game_on(stack: list[int], piece: int, mode: str) -> tuple[TetrisEnv, ReferenceTetris] | None:
    """A game whose piece has just spawned over a stack, given by its rows' bits; None if it cannot spawn there."""
    env = gym.make(ENV_IDS[mode], gravity_interval=NEVER).unwrapped
    env.reset(seed=0)
    reference = ReferenceTetris(mode, gravity_interval=NEVER)
    reference.reset(seed=0)
    rows = [0] * (HIDDEN + HEIGHT - len(stack)) + stack
    reference.board = Board([[bits >> x & 1 for x in range(WIDTH)] for bits in rows])
    reference.current, reference.pose = piece, spawn_pose(piece)
    reference.found_placements = None
    if not reference.board.fits(piece, reference.pose):
        return None
    copy_into(env, reference)
    return env, reference


@given(stacks, st.integers(0, 6))
@settings(max_examples=150)
def test_the_mask_is_what_brute_force_reaches(stack, piece):
    if (game := game_on(stack, piece, "placement")) is None:
        return
    env, reference = game
    board = reference.board
    poses = [
        pose
        for pose in board.reachable(piece, reference.pose)
        if not board.fits(piece, (pose[0], pose[1] + 1, pose[2])) and min(y for y, _ in covered(piece, pose)) >= 0
    ]
    expected: dict[frozenset, int] = {}
    for pose in sorted(poses):  # the smallest rotation first
        expected.setdefault(covered(piece, pose), pose[0])
    marked = np.flatnonzero(env.action_masks()).tolist()
    found = [(min(y for y, _ in where), min(x for _, x in where), r) for where, r in expected.items()]
    assert marked == sorted(40 * y + 4 * x + r for y, x, r in found)


@given(stacks, st.integers(0, 6), st.data())
@settings(max_examples=60)
def test_a_marked_placement_puts_the_piece_exactly_there(stack, piece, data):
    if (game := game_on(stack, piece, "placement")) is None:
        return
    env, reference = game
    action = data.draw(st.sampled_from(np.flatnonzero(env.action_masks()).tolist()))
    top, left, rotation = action // 40, action // 4 % 10, action % 4
    shape = np.array(CELLS[piece][rotation])
    shape = shape - shape.min(axis=0) + (top + HIDDEN, left)
    field = np.array(reference.board.rows)
    assert not field[tuple(shape.T)].any()
    field[tuple(shape.T)] = 1
    kept = field[~field.all(axis=1)]
    _, _, _, _, info = env.step(action)
    assert not info["invalid_action"]
    assert info["lines_cleared"] == len(field) - len(kept)
    assert np.array_equal(cells(env.get_state().game)[info["lines_cleared"] :], kept)


@given(stacks, st.integers(0, 6), primitive_actions)
@settings(max_examples=60)
def test_the_direct_mask_marks_exactly_what_changes_the_game(stack, piece, actions):
    if (game := game_on(stack, piece, "direct")) is None:
        return
    env, _ = game
    clocks = [layout.STEPS, layout.GRAVITY_LEFT]
    for action in actions[:12]:
        mask = env.action_masks()
        state = env.get_state()
        for tried in range(8):
            env.set_state(state)
            env.step(tried)
            before, after = (np.delete(snapshot.game, clocks) for snapshot in (state, env.get_state()))
            if tried != NO_OP:
                outcome = slice(layout.AGGREGATE_HEIGHT_CHANGE - len(clocks), layout.PIECE_PLACED + 1 - len(clocks))
                before[outcome] = after[outcome]
                assert mask[tried] == (not np.array_equal(before, after)), f"action {tried}"
        assert mask[NO_OP]
        env.set_state(state)
        if env.step(action)[2]:
            assert env.action_masks().all()
            break


@given(modes, seeds, difficulties, st.data())
def test_restored_states_replay_identically(mode, seed, difficulty, data):
    """The future from a snapshot is the same, the following episodes included, in another environment too."""
    actions = data.draw(primitive_actions if mode == "direct" else placements)
    start = data.draw(st.integers(0, len(actions)))
    env = gym.make(ENV_IDS[mode], difficulty=difficulty).unwrapped
    env.reset(seed=seed)

    def replay(env: TetrisEnv, actions: list[int]) -> list:
        results = []
        for action in actions:
            *result, info = env.step(action)
            results.append([result[0].tobytes(), *result[1:], {k: str(v) for k, v in info.items()}])
            if result[2]:
                results.append(env.reset()[0].tobytes())
        return [*results, env.action_masks().tobytes(), env.reset()[0].tobytes()]

    for action in actions[:start]:
        if env.step(action)[2]:
            env.reset()
    state = env.get_state()
    future = replay(env, actions[start:])
    env.set_state(state)
    assert replay(env, actions[start:]) == future
    other = gym.make(ENV_IDS[mode]).unwrapped
    other.reset(seed=1)
    other.set_state(state)
    assert replay(other, actions[start:]) == future


@given(seeds, difficulties)
def test_a_hold_is_possible_once_a_piece(seed, difficulty):
    env = gym.make("TetrisDirect-v0", difficulty=difficulty, gravity_interval=NEVER).unwrapped
    env.reset(seed=seed)
    for _ in range(4):
        first = env.get_state().game[[layout.PIECE, layout.HOLD]].tolist()
        env.step(HOLD)
        second = env.get_state().game[[layout.PIECE, layout.HOLD]].tolist()
        assert second[1] == first[0]
        env.step(HOLD)
        assert env.get_state().game[[layout.PIECE, layout.HOLD]].tolist() == second
        env.step(HARD_DROP)
