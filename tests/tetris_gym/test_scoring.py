"""Level, score, statistics and rewards, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from tests.tetris_gym.games import EnvGame, Game, Position, ReferenceGame
from tests.tetris_gym.reference import HARD_DROP, HOLD, LEFT, NO_OP, SOFT_DROP, I, O, T

WELL = ".#########"


@pytest.fixture(params=[EnvGame, ReferenceGame], ids=["env", "reference"])
def new_game(request: pytest.FixtureRequest) -> type[Game]:
    return request.param


def clear(lines: int, total_lines: int) -> Position:
    """An upright I in column 0 is about to lock and to clear some lines."""
    return Position((WELL,) * lines + (".########.",) * (4 - lines), I, pose=(1, 16, -2), total_lines=total_lines)


@pytest.mark.parametrize(
    ("before", "lines", "level", "score"),
    [
        (0, 1, 0, 100),
        (0, 4, 0, 800),
        (6, 4, 1, 800),
        (10, 2, 1, 600),
        (19, 1, 2, 200),
        (28, 3, 3, 1500),
        (99, 4, 10, 8000),
    ],
)
def test_the_score_counts_the_level_before_the_clear(new_game, before, lines, level, score):
    game = new_game(clear(lines, before)).act(SOFT_DROP)
    assert game.info["level"] == level
    assert game.info["total_lines"] == before + lines
    assert game.info["score"] == score


def test_drops_score_by_the_row(new_game):
    game = new_game(Position((), O)).act(SOFT_DROP, SOFT_DROP, LEFT, NO_OP, HOLD)
    assert game.info["score"] == 2
    game = new_game(Position((), O)).act(SOFT_DROP, SOFT_DROP, HARD_DROP)
    assert game.info["score"] == 2 + 2 * 16


def test_a_placement_scores_its_lines_only(new_game):
    game = new_game(Position((WELL,) * 4, I), mode="placement").act(16 * 40 + 1)
    assert game.info["score"] == 800


def test_statistics(new_game):
    stack = ("#.........", "##..#.....", ".#..#....#", "##.......#")
    game = new_game(Position(stack, T)).act(NO_OP)
    assert {key: game.info[key] for key in ("aggregate_height", "holes", "bumpiness", "max_height")} == {
        "aggregate_height": 4 + 3 + 3 + 2,
        "holes": 1 + 1,
        "bumpiness": 1 + 3 + 3 + 3 + 2,
        "max_height": 4,
    }
    game.act(HARD_DROP)  # row 15: the T's stem over column 4; row 16: its arms over columns 3, 4 and 5
    assert {key: game.info[key] for key in ("aggregate_height", "holes", "bumpiness", "max_height")} == {
        "aggregate_height": 4 + 3 + 4 + 5 + 4 + 2,
        "holes": 1 + 3 + 1 + 3,
        "bumpiness": 1 + 3 + 4 + 1 + 1 + 4 + 2,
        "max_height": 5,
    }


@pytest.mark.parametrize(
    ("before", "lines", "reward"),
    [
        (0, 0, 0), (0, 1, 1), (0, 2, 3), (0, 3, 5), (0, 4, 8),
        (9, 0, 0), (9, 1, 2), (8, 3, 10), (19, 1, 3), (25, 4, 24), (26, 4, 32), (38, 2, 12), (99, 4, 32),
    ],
)  # fmt: skip
def test_lines_only(new_game, before, lines, reward):
    assert new_game(clear(lines, before), reward_mode="lines_only").act(SOFT_DROP).reward == reward


def test_lines_only_has_no_penalty_for_the_end(new_game):
    game = new_game(Position(("..######..",) * 19, I), reward_mode="lines_only").act(HOLD)
    assert game.over
    assert game.reward == 0


@pytest.mark.parametrize(
    ("position", "action", "reward"),
    [
        pytest.param(Position((), O), NO_OP, 0, id="nothing locks"),
        pytest.param(Position((), O), HARD_DROP, 2 - 0.05 * 4 - 0.1 * 4, id="first piece"),
        pytest.param(
            Position(("#.########",), I, pose=(0, 5, 0)),
            HARD_DROP,
            2 - 0.05 * (14 - 9) - 0.25 * 1 - 0.1 * (1 - 2),
            id="a lid on a hole",
        ),
        pytest.param(clear(4, 0), SOFT_DROP, 2 + 12 + 0.05 * 36 + 0.1 * 4, id="four lines"),
        pytest.param(
            clear(1, 9),
            SOFT_DROP,
            2 + 2 * 3 - 0.05 * (27 - 36) - 0.25 * (0 - 3) - 0.1 * (3 - 4),
            id="the level after the step counts",
        ),
        pytest.param(clear(4, 40), SOFT_DROP, 50, id="clipped"),
        pytest.param(
            Position(("..######..",) * 19, O, pose=(0, 0, 8)),
            HARD_DROP,
            2 - 0.05 * 4 - 0.1 * (36 - 38) - 10,
            id="block-out",
        ),
        pytest.param(
            Position(("#.........",) * 19, O, pose=(0, -1, 0)),
            HARD_DROP,
            2 - 0.05 * (42 - 19) - 0.25 * 19 - 0.1 * (21 - 19) - 10,
            id="lock-out, hidden rows count",
        ),
    ],
)
def test_standard(new_game, position, action, reward):
    assert new_game(position).act(action).reward == pytest.approx(reward, abs=1e-6)


def test_standard_counts_changes_from_one_lock_to_the_next(new_game):
    game = new_game(Position((), O, next=O)).act(HARD_DROP, LEFT, LEFT)
    assert game.reward == 0
    assert game.act(HARD_DROP).reward == pytest.approx(2 - 0.05 * 4, abs=1e-6)
