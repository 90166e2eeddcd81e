"""The reward of what is new: where it is high, and what it finds."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.utils import LinearSchedule

from sb3_dream.dream import DREAM
from sb3_dream.imagination import Rollout
from sb3_dream.novelty import Novelty
from sb3_dream.world_models.base import State
from tests.sb3_dream.tiny import NETWORKS, RSSM, Walk, assert_same, parameters, tiny


def test_what_was_seen_is_not_new() -> None:
    th.manual_seed(0)
    novelty = Novelty(12)
    optimizer = th.optim.Adam(novelty.predictor.parameters(), 1e-3)
    seen = th.eye(12)[:4]
    for _ in range(300):
        rows = seen[th.randint(4, (8, 6))]  # (8, 6, 12)
        optimizer.zero_grad()
        novelty.loss(rows, th.ones(8, 6)).backward()
        optimizer.step()
    with th.no_grad():
        known, unknown = novelty(seen), novelty(th.eye(12)[4:])
    assert known.max() < 1.5
    assert unknown.min() > 2 * known.max()
    assert unknown.max() <= 5.0


def test_padding_teaches_nothing() -> None:
    one, other = (Novelty(3) for _ in range(2))
    other.load_state_dict(one.state_dict())
    percepts, valid = th.randn(2, 4, 3), th.ones(2, 4)
    valid[1, 2:] = 0
    spoilt = percepts.clone()
    spoilt[1, 2:] = 99.0
    assert th.equal(one.loss(percepts, valid), other.loss(spoilt, valid))


@pytest.mark.parametrize(("coef", "weight"), [(0.5, 0.5), (LinearSchedule(1.0, 0.0, 1.0), 0.25)])
def test_imagined_rewards_are_higher_where_it_is_new_and_life_goes_on(coef: Any, weight: float) -> None:
    model = tiny(Walk(), novelty_coef=coef)
    model._current_progress_remaining = 0.25
    nothing = th.zeros(1, 2)
    state = State(nothing, nothing)
    rollout = Rollout(
        nothing, nothing, nothing, None, th.ones(1, 2), th.tensor([[1.0, 0.0]]), state, th.full((1, 2), 4.0)
    )
    assert rollout.curious(model._now(model.novelty_coef)).rewards.tolist() == [[1 + 4 * weight, 1.0]]


class Far(Walk):
    """Beside a pit with a small reward, far from a prize that chance never finds."""

    prizes = 0

    def __init__(self) -> None:
        super().__init__(cells=16, limit=30)

    def step(self, action: Any) -> Any:
        result = super().step(action)
        self.prizes += self.cell == self.cells - 1
        return result


def explorer(env: Far, novelty_coef: float) -> DREAM:
    networks = {
        "world_model_kwargs": {"width": 32, "depth": 1, "memory": 4, "second_look": False, "practice": 0.0},
        "actor_critic_kwargs": {"net_arch": [32]},
    }
    return DREAM(
        env,
        learning_starts=100,
        batch_size=8,
        sequence_length=8,
        reward_batch_size=4,
        train_ratio=16,
        model_warmup=50,
        policy_delay=3,
        imagination_starts=64,
        imagination_horizon=10,
        dream_length=10,
        n_minibatches=2,
        gamma_start=0.97,
        gamma=0.97,
        ent_coef=0.01,
        novelty_coef=novelty_coef,
        policy_kwargs=networks,
        seed=0,
        device="cpu",
    )


@pytest.mark.parametrize(("novelty_coef", "least", "most"), [(0.1, 1, 900), (0.0, 0, 0)])
def test_a_prize_is_found_that_chance_does_not_find(novelty_coef: float, least: int, most: int) -> None:
    env = Far()
    explorer(env, novelty_coef).learn(900)
    assert least <= env.prizes <= most


def test_it_is_saved_with_the_model(tmp_path: Path) -> None:
    model = tiny(Walk(), novelty_coef=0.1).learn(40)
    model.save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model", Walk(), device="cpu")
    assert loaded.novelty_coef == 0.1
    first, second = parameters(model), parameters(loaded)
    assert any("novelty" in name for name in first)
    assert_same(first, second)
    DREAM.load(tmp_path / "model", Walk(), device="cpu", novelty_coef=0.0).learn(20)


def test_it_cannot_begin_late(tmp_path: Path) -> None:
    tiny(Walk()).save(tmp_path / "model")
    with pytest.raises(ValueError, match="novelty_coef must stay 0 for a model that was made with 0"):
        DREAM.load(tmp_path / "model", Walk(), device="cpu", novelty_coef=0.1)


def test_latents_can_be_new_too() -> None:
    networks = {**NETWORKS, "world_model": "rssm", "world_model_kwargs": RSSM}
    model = tiny(Walk(), policy_kwargs=networks, novelty_coef=0.1)
    before = parameters(model)
    after = parameters(model.learn(40))
    learned = {name for name in before if not th.equal(before[name], after[name]) and "novelty" in name}
    assert any("predictor" in name for name in learned)
    assert not any("target" in name for name in learned)
