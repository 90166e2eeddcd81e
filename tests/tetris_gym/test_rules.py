"""The rules one by one, on hand-built boards; each is asked of the environment and of the reference."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from tests.tetris_gym.games import EnvGame, Game, Position, ReferenceGame
from tests.tetris_gym.reference import (
    CLOCKWISE,
    COUNTER_CLOCKWISE,
    HARD_DROP,
    HOLD,
    LEFT,
    NO_OP,
    RIGHT,
    SOFT_DROP,
    I,
    J,
    L,
    O,
    S,
    SplitMix64,
    T,
    Z,
)

EMPTY = "." * 10
SUBSETS_OF_FOUR_ROWS = [rows for count in range(1, 5) for rows in combinations(range(4), count)]


@pytest.fixture(params=[EnvGame, ReferenceGame], ids=["env", "reference"])
def new_game(request: pytest.FixtureRequest) -> type[Game]:
    return request.param


def bits(game: Game) -> tuple[int, int]:
    """The current and the next piece as the observation tells them."""
    current, following = game.observation[200:206].reshape(2, 3) @ [1, 2, 4]
    return int(current), int(following)


# Pieces and the random stream


def test_split_mix_64_gives_the_published_numbers():
    random = SplitMix64(1234567)
    assert [random.next() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(
    ("piece", "rows"),
    [
        (I, ["...####...", EMPTY]),
        (O, ["....##....", "....##...."]),
        (T, ["....#.....", "...###...."]),
        (S, ["....##....", "...##....."]),
        (Z, ["...##.....", "....##...."]),
        (J, ["...#......", "...###...."]),
        (L, [".....#....", "...###...."]),
    ],
)
def test_pieces_spawn_flat_with_their_top_in_row_0(new_game, piece, rows):
    game = new_game(Position((), T, next=piece)).act(HARD_DROP)
    assert game.field[:18] == rows + [EMPTY] * 16
    assert bits(game)[0] == piece


def test_bags_are_shuffled_as_the_rules_say(new_game):
    """An episode's pieces against a shuffle that is written out here."""
    random = SplitMix64(int(np.random.default_rng(5).integers(0, 2**64, dtype=np.uint64)))
    expected = []
    for _ in range(6):
        bag = [I, O, T, S, Z, J, L]
        for i in (6, 5, 4, 3, 2, 1):
            j = ((random.next() >> 32) * (i + 1)) >> 32
            bag[i], bag[j] = bag[j], bag[i]
        assert sorted(bag) == [I, O, T, S, Z, J, L]
        expected += bag

    game = new_game(Position((), O))
    game.observation, _ = game.game.reset(seed=5)
    seen = [bits(game)]
    for i in range(20):
        game.act(*[(LEFT, RIGHT)[i % 2]] * 5, HARD_DROP)
        seen.append(bits(game))
    assert not game.over
    assert seen == list(pairwise(expected[:22]))


# Line clears


@pytest.mark.parametrize("full", SUBSETS_OF_FOUR_ROWS, ids=str)
def test_line_clears(new_game, full):
    """An upright I in column 0 fills any subset of four rows; each row above falls by the cleared rows below it."""
    tower = (".#........", ".##....#..")
    four = tuple(".#########" if row in full else f".{'#' * row}.{'#' * (8 - row)}" for row in range(4))
    bottom = ("###.######",)
    game = new_game(Position(tower + four + bottom, I, pose=(3, 2, -1))).act(HARD_DROP)
    left = [f"#{row[1:]}" for row in four if row != ".#########"]
    assert game.stack == [*tower, *left, *bottom]
    assert game.info["lines_cleared"] == game.info["total_lines"] == len(full)
    assert game.info["score"] == (0, 100, 300, 500, 800)[len(full)] + 2 * 13


def test_cells_above_a_cleared_line_do_not_fall_into_holes(new_game):
    stack = ("....#.....", ".#########", "#.##.#####")
    game = new_game(Position(stack, I, pose=(1, 2, -2))).act(HARD_DROP)
    assert game.stack == ["#.........", "#.........", "#...#.....", "#.##.#####"]


def test_a_clear_by_gravity_and_by_a_soft_drop_counts_like_one_by_a_hard_drop(new_game):
    position = Position(("#########.",), I, pose=(1, 16, 7))
    for game in (
        new_game(position).act(HARD_DROP),
        new_game(position).act(SOFT_DROP),
        new_game(position, gravity_interval=1).act(NO_OP),
    ):
        assert game.info["lines_cleared"] == 1
        assert game.info["score"] == 100
        assert game.stack == [".........#"] * 3


# The end


@pytest.mark.parametrize(("following", "over"), [(O, True), (T, True), (I, False)])
def test_block_out(new_game, following, over):
    """The stack reaches row 1: an I still spawns in row 0, the others overlap."""
    stack = ("..######..",) * 19
    game = new_game(Position(stack, O, pose=(0, 0, 8), next=following)).act(HARD_DROP)
    assert game.over == game.info["game_over"] == over
    assert game.stack == [*stack[:17], *["..########"] * 2]
    assert bits(game)[0] == following
    assert game.field[0] == {O: "....##....", T: "....#.....", I: "...####..."}[following]
    assert game.field[1] == "..######.."
    assert game.info["max_height"] == 19
    assert not over or game.mask.all()


@pytest.mark.parametrize("pose", [(0, -2, 0), (0, -1, 0)], ids=["above the field", "half above the field"])
def test_lock_out(new_game, pose):
    """A cell of the stack is left above the field: no piece follows, the field is the stack alone."""
    stack = ("#.........",) * (18 - pose[1])
    game = new_game(Position(stack, O, pose=pose)).act(NO_OP)
    assert bits(game)[0] == O
    game.act(HARD_DROP)
    assert game.over and game.info["game_over"] and game.info["piece_placed"]
    assert bits(game) == (0, 0)
    assert game.field == ["##........"] * (2 + pose[1]) + ["#........."] * (18 - pose[1])
    assert game.info["max_height"] == 20 - pose[1]
    assert game.info["aggregate_height"] == 2 * (20 - pose[1])
    assert game.mask.all()


def test_a_line_clear_can_save_from_a_lock_out(new_game):
    stack = ("#####.####",) * 3 + (".#########",) * 17
    game = new_game(Position(stack, I, pose=(1, -1, 3))).act(HARD_DROP)
    assert not game.over
    assert game.info["lines_cleared"] == 3
    assert game.stack == [".....#....", *stack[3:]]


def test_block_out_by_a_hold(new_game):
    """The piece that hold brings in overlaps: the game is over, nothing is locked and gravity does not act."""
    stack = ("..######..",) * 19
    game = new_game(Position(stack, I, next=O), gravity_interval=1).act(HOLD)
    assert game.over and game.info["game_over"]
    assert not game.info["piece_placed"]
    assert game.reward == -10
    assert game.stack == list(stack)
    assert game.field[:2] == ["....##....", "..######.."]


# Hold


def test_hold(new_game):
    game = new_game(Position((), T, next=L)).act(RIGHT, SOFT_DROP, CLOCKWISE, HOLD)
    following = game.pieces[1]
    assert game.pieces == (L, following, T)
    assert game.pose == (0, 0, 3)
    assert not game.mask[HOLD]

    game.act(RIGHT, HOLD)
    assert game.pieces == (L, following, T), "a second hold before a lock does nothing"
    assert game.pose == (0, 0, 4)

    game.act(HARD_DROP)
    assert game.mask[HOLD]
    game.act(COUNTER_CLOCKWISE, HOLD)
    assert game.pieces[0] == T
    assert game.pieces[2] == following
    assert game.pose == (0, 0, 3), "a piece that comes back spawns afresh"
    assert not game.info["piece_placed"]
    assert game.info["pieces_placed"] == 1


# Gravity


@pytest.mark.parametrize("interval", [1, 2, 3, 7])
def test_gravity_acts_on_every_multiple_of_its_interval(new_game, interval):
    game = new_game(Position((), T), gravity_interval=interval)
    rows = []
    for action in [NO_OP, LEFT, RIGHT, CLOCKWISE, COUNTER_CLOCKWISE] * 3:
        rows.append(game.act(action).pose[1])
    assert rows == [step // interval for step in range(1, 16)]
    assert game.info["score"] == 0


@pytest.mark.parametrize("difficulty", range(11))
def test_gravity_and_garbage_of_each_difficulty(new_game, difficulty):
    random = SplitMix64(int(np.random.default_rng(3).integers(0, 2**64, dtype=np.uint64)))
    gaps = [((random.next() >> 32) * 10) >> 32 for _ in range(difficulty)]
    game = new_game(Position((), O), gravity_interval=None, difficulty=difficulty)
    game.game.reset(seed=3)
    assert game.stack == ["".join(".#"[x != gap] for x in range(10)) for gap in reversed(gaps)]
    spawn_row = game.pose[1]
    interval = (5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 1)[difficulty]
    assert game.act(*[NO_OP] * (interval - 1)).pose[1] == spawn_row
    assert game.act(NO_OP).pose[1] == spawn_row + 1


def test_gravity_does_not_act_on_the_step_of_a_lock(new_game):
    game = new_game(Position((), T, next=L), gravity_interval=2).act(NO_OP, HARD_DROP)
    assert game.pose == (0, 0, 3)
    assert game.act(NO_OP).pose == (0, 0, 3)
    assert game.act(NO_OP).pose == (0, 1, 3)


def test_gravity_acts_on_a_piece_that_hold_brings_in(new_game):
    assert new_game(Position((), T, next=L), gravity_interval=1).act(HOLD).pose == (0, 1, 3)


def test_a_soft_drop_and_gravity_in_one_step(new_game):
    game = new_game(Position((), T), gravity_interval=1).act(SOFT_DROP)
    assert game.pose == (0, 2, 3)
    assert game.info["score"] == 1
    game = new_game(Position((), T, pose=(0, 17, 3)), gravity_interval=1).act(SOFT_DROP)
    assert game.info["piece_placed"], "gravity locks where the soft drop has brought it to rest"
    assert game.info["score"] == 1


@pytest.mark.parametrize(("action", "interval"), [(SOFT_DROP, 9), (SOFT_DROP, 1), (NO_OP, 1), (LEFT, 1)])
def test_a_piece_that_cannot_fall_locks_at_once(new_game, action, interval):
    game = new_game(Position((), O, pose=(0, 18, 0), next=L), gravity_interval=interval).act(action)
    assert game.info["piece_placed"]
    assert game.info["score"] == 0
    assert game.stack == ["##........"] * 2
    assert game.pose == (0, 0, 3)


def test_a_hard_drop_locks_and_scores_two_a_row(new_game):
    game = new_game(Position(("###.......",), O, pose=(0, 5, 2))).act(HARD_DROP)
    assert game.info["score"] == 2 * 12
    assert game.stack == ["..##......", "..##......", "###......."]
    assert game.info["pieces_placed"] == 1


# Moves


def test_moves_stop_at_the_walls_and_at_the_stack(new_game):
    assert new_game(Position((), S, pose=(0, 5, 3))).act(*[LEFT] * 9).pose == (0, 5, 0)
    assert new_game(Position((), I, pose=(3, 5, 3))).act(*[RIGHT] * 9).pose == (3, 5, 8)
    assert new_game(Position(("...#......",), O, pose=(0, 18, 4))).act(LEFT).pose == (0, 18, 4)
    assert new_game(Position((), J)).act(NO_OP).pose == (0, 0, 3)


# Masks


def test_direct_mask_marks_what_would_change_something(new_game):
    well = ("..#.######",) * 10

    def marked(position: Position) -> list[int]:
        return np.flatnonzero(new_game(position).mask).tolist()

    always = [SOFT_DROP, HARD_DROP, NO_OP]
    turns = [CLOCKWISE, COUNTER_CLOCKWISE]
    assert marked(Position((), T)) == list(range(8))
    assert marked(Position((), T, hold_used=True)) == sorted([LEFT, RIGHT, *turns, *always])
    assert marked(Position((), O, pose=(0, 5, 0))) == sorted([RIGHT, *turns, HOLD, *always])
    assert marked(Position((), O, pose=(0, 5, 8))) == sorted([LEFT, *turns, HOLD, *always])
    assert marked(Position(well, I, pose=(1, 15, 1), hold_used=True)) == always
