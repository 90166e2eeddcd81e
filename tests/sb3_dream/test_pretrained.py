"""The agents in ``examples/pretrained`` can be loaded by today's code, and still play as their card says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch as th

from sb3_dream import DREAM
from sb3_dream.evaluation import evaluate
from sb3_dream.planning import Planner
from sb3_dream.zoo_commands import PRETRAINED_FOLDER
from tetris_gym import TetrisVecEnv

DIRECT, PLACEMENT = (
    PRETRAINED_FOLDER / "dream" / f"{name}_1" / f"{name}.zip" for name in ("TetrisDirect-v0", "TetrisPlacement-v0")
)


@pytest.mark.parametrize(("agent", "gamma"), [(DIRECT, 0.99), (PLACEMENT, 0.985)])
def test_they_plan_as_their_card_says(agent: Path, gamma: float) -> None:
    assert DREAM.load(agent, device="cpu").policy.planner == Planner(16, 12, gamma)


@pytest.mark.parametrize(
    ("agent", "actions", "games", "lines", "pieces"),
    [
        (DIRECT, "direct", 50, 25, 100),  # 34.1 and 122 where it was trained; a random player has 0 and 12
        (PLACEMENT, "placement", 20, 60, 180),  # 99 and 289; 0 and 20
    ],
)
def test_without_planning_they_play_as_well_as_their_card_says(
    agent: Path, actions: Literal["direct", "placement"], games: int, lines: float, pieces: float
) -> None:
    env = TetrisVecEnv(min(games, 50), actions)
    env.seed(10_000)
    th.manual_seed(0)
    played = evaluate(DREAM.load(agent, device="cpu", plan_samples=0), env, games)
    assert np.mean(played.counters["total_lines"]) > lines
    assert np.mean(played.counters["pieces_placed"]) > pieces
