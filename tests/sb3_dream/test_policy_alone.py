"""The benchmark of the policy alone leaves the world model as it is."""

from __future__ import annotations

from pathlib import Path

import torch as th

from benchmarks.policy_alone import keep, learn, play, prepare, told
from sb3_dream import DREAM
from tests.sb3_dream.tiny import assert_same, parameters, tiny


def test_actor_and_critic_learn_while_the_world_model_stands_still(tmp_path: Path) -> None:
    tiny("TetrisDirect-v0").save(tmp_path / "model.zip")
    agent = prepare(tmp_path / "model.zip", steps=80, imagination_starts=6)
    assert (agent.num_timesteps, agent._n_updates, agent.imagination_starts) == (80, 0, 6)
    before = {name: value.clone() for name, value in agent.policy.named_parameters()}
    assert learn(agent, updates=2) > 0
    changed = [name for name, value in agent.policy.named_parameters() if not th.equal(before[name], value)]
    for part in ("actor", "critic", "slow_critic"):
        assert any(name.startswith(f"actor_critic.{part}") for name in changed)
    assert all(name.startswith("actor_critic.") for name in changed)
    keep(agent, tmp_path / "model.zip", tmp_path / "learned.zip")
    kept = DREAM.load(tmp_path / "learned.zip", device="cpu")
    assert (kept.num_timesteps, kept.imagination_starts, kept.train_ratio) == (80, 4, 2.0)
    assert_same(parameters(kept), parameters(agent))


def test_games_are_told_by_kind_of_action(tmp_path: Path) -> None:
    found = play(tiny("TetrisDirect-v0"), games=2)
    assert [len(games.returns) for games in found.values()] == [2, 2]
    assert "0.00 ± 0.00 lines" in told(found["sampled"])
