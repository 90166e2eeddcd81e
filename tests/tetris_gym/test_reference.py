"""The environment plays exactly as the reference does: observations, rewards, flags, infos and masks.

``TETRIS_COMPARE_STEPS`` sets the number of primitive steps (placements: an eighth of it); see also ``side_by_side``.
"""

from __future__ import annotations

import os

import gymnasium as gym
import numpy as np
import pytest

from tests.tetris_gym.games import ENV_IDS
from tests.tetris_gym.players import RandomPlayer, Stacker
from tests.tetris_gym.reference import ReferenceTetris, SplitMix64
from tests.tetris_gym.side_by_side import compare, compare_many

STEPS = int(os.environ.get("TETRIS_COMPARE_STEPS", "20000"))


@pytest.mark.parametrize("part", range(4))
def test_primitive_actions(part):
    total = compare_many("direct", steps=STEPS // 4, block=500, seed=part)
    assert total.steps >= STEPS // 4
    assert total.events["pieces"] > total.steps // 50
    assert total.events["1 lines"] and total.events["ends of a game"] and total.events["truncations"]


@pytest.mark.parametrize("part", range(4))
def test_placements(part):
    total = compare_many("placement", steps=STEPS // 32, block=80, seed=part)
    assert total.steps >= STEPS // 32
    assert total.events["1 lines"] and total.events["2 lines"] and total.events["ends of a game"]
    assert 0 < total.events["unreachable placements"] < total.steps


@pytest.mark.parametrize("mode", ENV_IDS)
def test_a_long_game(mode):
    """One good player on an empty field, until the level has its full effect on rewards and scores."""
    player = Stacker(np.random.default_rng(0), slip=0.0)
    total = compare(mode, player, {"direct": 3000, "placement": 150}[mode], 0, False, gravity_interval=20)
    assert total.events["highest level"] >= 4
    assert total.events["ends of a game"] == 0


@pytest.mark.parametrize("difficulty", range(11))
def test_every_difficulty(difficulty):
    compare("direct", RandomPlayer(np.random.default_rng(difficulty)), 300, difficulty, False, difficulty=difficulty)


def test_dictionary_observations():
    """The five coming pieces are looked up without disturbing the stream, and the parts add up to the field."""
    env = gym.make("TetrisDirect-v0", obs_type="dict")
    reference = ReferenceTetris()
    reference.reset(seed=4)
    observation, _ = env.reset(seed=4)
    player = Stacker(np.random.default_rng(0), slip=0.0)
    for _ in range(600):
        ahead = [reference.next, *reference.bag]
        stream = SplitMix64(reference.random.state)
        while len(ahead) < 5:
            bag = list(range(7))
            for i in range(6, 0, -1):
                j = stream.below(i + 1)
                bag[i], bag[j] = bag[j], bag[i]
            ahead += bag
        assert observation["stack"].tolist() == reference.board.rows[4:]
        assert (observation["stack"] + observation["falling_piece"]).tolist() == reference.field()
        assert observation["current"] == reference.current
        assert observation["preview"].tolist() == ahead[:5]
        assert observation["hold"] == (7 if reference.hold is None else reference.hold)
        assert observation["can_hold"] == (not reference.hold_used)
        action = player.action(reference)
        observation, *_ = env.step(action)
        reference.step(action)
    assert reference.pieces_placed > 30 and not reference.over
