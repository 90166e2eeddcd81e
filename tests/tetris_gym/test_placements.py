"""Placements: masks, tucks, and what becomes of a placement that is out of reach."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tetris_gym.games import EnvGame, Game, Position, ReferenceGame
from tests.tetris_gym.reference import I, J, L, O, S, T, Z


@pytest.fixture(params=[EnvGame, ReferenceGame], ids=["env", "reference"])
def new_game(request: pytest.FixtureRequest) -> type[Game]:
    return request.param


def number(y: int, x: int, rotation: int) -> int:
    return 40 * y + 4 * x + rotation


def marked(game: Game) -> set[tuple[int, int, int]]:
    """The marked (y, x, rotation)."""
    return {(a // 40, a // 4 % 10, a % 4) for a in np.flatnonzero(game.mask).tolist()}


@pytest.mark.parametrize(
    ("piece", "rests"),
    [
        (O, {(18, 0): 9}),
        (I, {(19, 0): 7, (16, 1): 10}),
        (S, {(18, 0): 8, (17, 1): 9}),
        (Z, {(18, 0): 8, (17, 1): 9}),
        (T, {(18, 0): 8, (17, 1): 9, (18, 2): 8, (17, 3): 9}),
        (J, {(18, 0): 8, (17, 1): 9, (18, 2): 8, (17, 3): 9}),
        (L, {(18, 0): 8, (17, 1): 9, (18, 2): 8, (17, 3): 9}),
    ],
)
def test_mask_on_an_empty_field(new_game, piece, rests):
    """Each rotation with cells of its own, in each column in which it has room."""
    expected = {(y, x, rotation) for (y, rotation), columns in rests.items() for x in range(columns)}
    assert marked(new_game(Position((), piece), mode="placement")) == expected


def test_a_tuck_is_reachable(new_game):
    game = new_game(Position(("####......", ".........."), I), mode="placement")
    assert {(19, 0, 0), (19, 3, 0), (17, 0, 0)} <= marked(game)
    game.act(number(19, 0, 0))
    assert not game.info["invalid_action"]
    assert game.stack == ["####......", "####......"]


def test_a_closed_cave_is_not_reachable(new_game):
    cave = ("########..", "....#####.", "....#####.")
    game = new_game(Position(cave, O), mode="placement")
    assert not {(18, x, 0) for x in range(8)} & marked(game)
    game.act(number(18, 1, 0))
    assert game.info["invalid_action"]
    assert game.stack == [".##.......", ".##.......", *cave]


def test_what_could_fall_further_is_not_a_placement(new_game):
    assert {y for y, _, _ in marked(new_game(Position((), O), mode="placement"))} == {18}


@pytest.mark.parametrize(
    ("piece", "action", "stack"),
    [
        (O, number(18, 3, 2), ["...##.....", "...##....."]),
        (S, number(18, 7, 2), ["........##", ".......##."]),
        (I, number(19, 0, 2), ["####......"]),
        (I, number(16, 9, 3), [".........#"] * 4),
    ],
)
def test_an_unmarked_rotation_with_the_same_cells_is_reachable(new_game, piece, action, stack):
    game = new_game(Position((), piece), mode="placement")
    assert not game.mask[action]
    game.act(action)
    assert game.info["piece_placed"] and not game.info["invalid_action"]
    assert game.stack == stack


COLUMN_OF_17 = ("#.........",) * 17
COLUMN_OF_19 = ("#.........",) * 19


@pytest.mark.parametrize(
    ("rows", "piece", "action", "stack"),
    [
        pytest.param((), O, number(0, 2, 0), ["..##......", "..##......"], id="in the air"),
        pytest.param((), O, number(19, 2, 0), ["..##......", "..##......"], id="in the floor"),
        pytest.param((), I, number(5, 9, 0), ["......####"], id="too far to the right"),
        pytest.param((), I, number(3, 9, 1), [".........#"] * 4, id="an upright I has one column"),
        pytest.param((), T, number(2, 8, 3), [".........#", "........##", ".........#"], id="a T on its side"),
        pytest.param(("####......", ".........."), I, number(0, 0, 0), ["####......"] * 2, id="onto an overhang"),
        pytest.param(COLUMN_OF_19, I, number(0, 0, 1), [*COLUMN_OF_19[1:], "#..####..."], id="no room to turn"),
    ],
)
def test_a_placement_out_of_reach_is_dropped(new_game, rows, piece, action, stack):
    game = new_game(Position(rows, piece), mode="placement")
    assert not game.mask[action]
    game.act(action)
    assert game.info["piece_placed"] and game.info["invalid_action"]
    assert game.stack == stack


def test_a_drop_begins_in_the_spawn_row_of_the_box(new_game):
    """An upright I has its top cell in the hidden row -1 there: on a column of 17 it rests at once, and is out."""
    game = new_game(Position(COLUMN_OF_17, I), mode="placement").act(number(0, 0, 1))
    assert game.over
    assert game.stack == ["#........."] * 21


def test_after_the_end_everything_is_marked(new_game):
    game = new_game(Position(("..######..",) * 19, I, next=O), mode="placement").act(number(0, 3, 0))
    assert game.over
    assert game.mask.all()
    assert game.info["action_mask"].all()
