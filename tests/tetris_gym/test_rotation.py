"""Turns: the shapes, every wall kick of both tables, and the spins that they allow."""

from __future__ import annotations

import pytest

from tests.tetris_gym.games import EnvGame, Game, Position, ReferenceGame
from tests.tetris_gym.reference import (
    CLOCKWISE,
    COUNTER_CLOCKWISE,
    HARD_DROP,
    KICKS_I,
    KICKS_JLSTZ,
    LEFT,
    NO_OP,
    RIGHT,
    SOFT_DROP,
    I,
    J,
    L,
    O,
    Pose,
    S,
    T,
    Z,
    covered,
)

QUARTERS = {CLOCKWISE: 1, COUNTER_CLOCKWISE: -1}

# The other published form of the kick tables: an offset for each rotation; a kick is the difference between the
# offsets of the two rotations, here less the first test's, which moves the I's centre within its 4x4 box.
OFFSETS_JLSTZ = (
    ((0, 0), (0, 0), (0, 0), (0, 0), (0, 0)),
    ((0, 0), (1, 0), (1, -1), (0, 2), (1, 2)),
    ((0, 0), (0, 0), (0, 0), (0, 0), (0, 0)),
    ((0, 0), (-1, 0), (-1, -1), (0, 2), (-1, 2)),
)
OFFSETS_I = (
    ((0, 0), (-1, 0), (2, 0), (-1, 0), (2, 0)),
    ((-1, 0), (0, 0), (0, 0), (0, 1), (0, -2)),
    ((-1, 1), (1, 1), (-2, 1), (1, 0), (-2, 0)),
    ((0, 1), (0, 1), (0, 1), (0, -1), (0, 2)),
)


@pytest.fixture(params=[EnvGame, ReferenceGame], ids=["env", "reference"])
def new_game(request: pytest.FixtureRequest) -> type[Game]:
    return request.param


@pytest.mark.parametrize(
    ("piece", "rotation", "rows"),
    [
        (I, 0, ("....", "####", "....", "....")),
        (I, 1, ("..#.", "..#.", "..#.", "..#.")),
        (I, 2, ("....", "....", "####", "....")),
        (I, 3, (".#..", ".#..", ".#..", ".#..")),
        (O, 0, ("##..", "##..", "....", "....")),
        (O, 1, ("##..", "##..", "....", "....")),
        (O, 2, ("##..", "##..", "....", "....")),
        (O, 3, ("##..", "##..", "....", "....")),
        (T, 0, (".#..", "###.", "....", "....")),
        (T, 1, (".#..", ".##.", ".#..", "....")),
        (T, 2, ("....", "###.", ".#..", "....")),
        (T, 3, (".#..", "##..", ".#..", "....")),
        (S, 0, (".##.", "##..", "....", "....")),
        (S, 1, (".#..", ".##.", "..#.", "....")),
        (S, 2, ("....", ".##.", "##..", "....")),
        (S, 3, ("#...", "##..", ".#..", "....")),
        (Z, 0, ("##..", ".##.", "....", "....")),
        (Z, 1, ("..#.", ".##.", ".#..", "....")),
        (Z, 2, ("....", "##..", ".##.", "....")),
        (Z, 3, (".#..", "##..", "#...", "....")),
        (J, 0, ("#...", "###.", "....", "....")),
        (J, 1, (".##.", ".#..", ".#..", "....")),
        (J, 2, ("....", "###.", "..#.", "....")),
        (J, 3, (".#..", ".#..", "##..", "....")),
        (L, 0, ("..#.", "###.", "....", "....")),
        (L, 1, (".#..", ".#..", ".##.", "....")),
        (L, 2, ("....", "###.", "#...", "....")),
        (L, 3, ("##..", ".#..", ".#..", "....")),
    ],
)
@pytest.mark.parametrize("turn", [CLOCKWISE, COUNTER_CLOCKWISE])
def test_turns_in_free_space(new_game, piece, rotation, rows, turn):
    game = new_game(Position((), piece, pose=(0, 8, 3)))
    game.act(NO_OP, *[turn] * (rotation if turn == CLOCKWISE else 4 - rotation))
    assert [row[3:7] for row in game.field[8:12]] == list(rows)
    assert game.pose == (rotation, 8, 3)


def published_kicks(piece: int, start: int, end: int) -> list[tuple[int, int]]:
    """The five tests, from the offsets."""
    offsets = OFFSETS_I if piece == I else OFFSETS_JLSTZ
    differences = [(a[0] - b[0], a[1] - b[1]) for a, b in zip(offsets[start], offsets[end], strict=True)]
    return [(x - differences[0][0], y - differences[0][1]) for x, y in differences]


def kick_targets(piece: int, source: Pose, turn: int) -> list[Pose]:
    """Where each of the five tests would put the piece."""
    rotation, y, x = source
    end = (rotation + QUARTERS[turn]) % 4
    return [(end, y - up, x + right) for right, up in published_kicks(piece, rotation, end)]


def blockers(piece: int, source: Pose, turn: int, test: int) -> set[tuple[int, int]] | None:
    """Cells that fail every test before the given one (5: all) and nothing else; None if there are none."""
    targets = kick_targets(piece, source, turn)
    needed = covered(piece, source) | (covered(piece, targets[test]) if test < 5 else frozenset())
    cells = set()
    for target in targets[:test]:
        candidates = covered(piece, target) - needed
        if not candidates:
            return None
        cells.add(min(candidates))
    return cells


def stack_of(cells: set[tuple[int, int]]) -> tuple[str, ...]:
    """A stack of these cells, given by visible row and column."""
    return tuple("".join(".#"[(y, x) in cells] for x in range(10)) for y in range(-4, 20))


KICK_CASES = [
    (piece, rotation, turn, test)
    for piece in (I, T, S, Z, J, L)
    for rotation in range(4)
    for turn in (CLOCKWISE, COUNTER_CLOCKWISE)
    for test in range(6)
]
POSSIBLE = [case for case in KICK_CASES if blockers(case[0], (case[1], 8, 4), *case[2:]) is not None]


def test_both_published_forms_of_the_tables_agree():
    for piece, table in ((I, KICKS_I), (T, KICKS_JLSTZ)):
        for (start, end), tests in table.items():
            assert list(tests) == published_kicks(piece, start, end)


def test_only_the_kicks_that_no_board_can_provoke_are_left_out():
    """Where a test's cells all lie in the piece itself and in a later test's cells, the later one never comes."""
    left_out = {case for case in KICK_CASES if case not in POSSIBLE}
    assert len(KICK_CASES) == 288
    assert left_out == {
        (T, 0, CLOCKWISE, 3),
        (T, 0, COUNTER_CLOCKWISE, 3),
        (T, 2, CLOCKWISE, 2),
        (T, 2, COUNTER_CLOCKWISE, 2),
    }


@pytest.mark.parametrize(("piece", "rotation", "turn", "test"), POSSIBLE)
def test_every_kick(new_game, piece, rotation, turn, test):
    """The stack fails the tests before this one, so the piece goes where this one says; after the fifth it stays."""
    source = (rotation, 8, 4)
    game = new_game(Position(stack_of(blockers(piece, source, turn, test)), piece, pose=source))
    possible = bool(game.mask[turn])
    game.act(turn)
    assert game.pose == (kick_targets(piece, source, turn)[test] if test < 5 else source)
    assert possible == (test < 5)


def at_the_ceiling(case: tuple[int, int, int, int]) -> Pose:
    """The pose from which this test's target would stick out of the field by one row."""
    piece, rotation, turn, test = case
    top = min(y for y, _ in covered(piece, kick_targets(piece, (rotation, 0, 4), turn)[test]))
    return rotation, -5 - top, 4


CEILING = [
    case
    for case in POSSIBLE
    if case[3] < 5 and min(y for y, _ in covered(case[0], at_the_ceiling(case))) >= -4
]  # fmt: skip


@pytest.mark.parametrize(("piece", "rotation", "turn", "test"), CEILING)
def test_no_kick_leaves_the_field_at_the_top(new_game, piece, rotation, turn, test):
    source = at_the_ceiling((piece, rotation, turn, test))
    game = new_game(Position(stack_of(blockers(piece, source, turn, test)), piece, pose=source)).act(turn)
    assert game.pose != kick_targets(piece, source, turn)[test]
    assert min(y for y, _ in covered(piece, game.pose)) >= -4


@pytest.mark.parametrize(
    ("piece", "source", "turn", "target"),
    [
        (I, (1, 10, -2), COUNTER_CLOCKWISE, (0, 10, 0)),
        (I, (3, 10, 8), CLOCKWISE, (0, 10, 6)),
        (T, (1, 10, -1), COUNTER_CLOCKWISE, (0, 10, 0)),
        (L, (3, 10, 8), CLOCKWISE, (0, 10, 7)),
        (J, (0, 18, 4), CLOCKWISE, (1, 17, 3)),
        (S, (0, 18, 4), COUNTER_CLOCKWISE, (3, 17, 5)),
        (I, (0, 18, 3), CLOCKWISE, (1, 16, 4)),
    ],
)
def test_kicks_off_the_walls_and_the_floor(new_game, piece, source, turn, target):
    assert new_game(Position((), piece, pose=source)).act(turn).pose == target


TRIPLE = (
    "##........",
    "#.........",
    "#.########",
    "#..#######",
    "#.########",
    "#########.",
)


def mirrored(stack: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row[::-1] for row in stack)


@pytest.mark.parametrize(
    ("stack", "moves", "turn"),
    [(TRIPLE, [LEFT] * 2, CLOCKWISE), (mirrored(TRIPLE), [RIGHT] * 3, COUNTER_CLOCKWISE)],
    ids=["left", "right"],
)
def test_t_spin_triple_by_the_fifth_kick(new_game, stack, moves, turn):
    game = new_game(Position(stack, T)).act(*[SOFT_DROP] * 14, *moves, turn)
    assert game.info["score"] == 14
    game.act(SOFT_DROP)
    assert game.info["lines_cleared"] == 3
    assert game.info["score"] == 14 + 500
    assert game.stack == [*stack[:2], stack[-1]]


@pytest.mark.parametrize(
    ("stack", "action"),
    [(TRIPLE, 16 * 40 + 1 * 4 + 1), (mirrored(TRIPLE), 16 * 40 + 7 * 4 + 3)],
    ids=["left", "right"],
)
def test_t_spin_triple_as_a_placement(new_game, stack, action):
    game = new_game(Position(stack, T), mode="placement")
    assert game.mask[action]
    game.act(action)
    assert game.info["lines_cleared"] == 3
    assert not game.info["invalid_action"]
    assert game.stack == [*stack[:2], stack[-1]]


def test_t_spin_double_under_an_overhang(new_game):
    stack = ("####......", "###...####", "####.#####")
    game = new_game(Position(stack, T, pose=(1, 17, 3))).act(CLOCKWISE, HARD_DROP)
    assert game.info["lines_cleared"] == 2
    assert game.info["score"] == 300
    assert game.stack == ["####......"]


def test_t_spin_single_by_the_second_kick(new_game):
    stack = ("###.######", "###...####", "###..#####")
    game = new_game(Position(stack, T, pose=(1, 17, 2))).act(CLOCKWISE)
    assert game.pose == (2, 17, 3)
    game.act(SOFT_DROP)
    assert game.info["lines_cleared"] == 1
    assert game.stack == ["###.######", "###.######"]
