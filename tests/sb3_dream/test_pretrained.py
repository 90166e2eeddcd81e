"""The agent in ``examples/pretrained`` can be loaded by today's code, and still plays as its card says."""

from __future__ import annotations

import numpy as np
import torch as th

from sb3_dream import DREAM
from sb3_dream.evaluation import evaluate
from sb3_dream.planning import Planner
from sb3_dream.zoo_commands import PRETRAINED_FOLDER
from tetris_gym import TetrisVecEnv

AGENT = PRETRAINED_FOLDER / "dream" / "TetrisDirect-v0_1" / "TetrisDirect-v0.zip"


def test_it_plans_as_its_card_says() -> None:
    assert DREAM.load(AGENT, device="cpu").policy.planner == Planner(16, 12, 0.99)


def test_without_planning_it_plays_as_well_as_its_card_says() -> None:
    env = TetrisVecEnv(50)
    env.seed(10_000)
    th.manual_seed(0)
    games = evaluate(DREAM.load(AGENT, device="cpu", plan_samples=0), env, 100)
    assert np.mean(games.counters["total_lines"]) > 0.9  # 1.34 where it was trained; a random player has 0
    assert np.mean(games.counters["pieces_placed"]) > 33  # 37; 12
