"""Updates beside the steps of the environments: all are made, between a step's beginning and its end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_dream.dream import DREAM
from tests.sb3_dream.tiny import SavedWalk, Walk, tiny


class Watched(DummyVecEnv):
    """Notes how many updates its model has made when a step begins, and when it ends."""

    model: DREAM

    def __init__(self) -> None:
        super().__init__([lambda: Monitor(Walk())])
        self.begun: list[int] = []
        self.ended: list[int] = []

    def step_async(self, actions: np.ndarray) -> None:
        self.begun.append(self.model._n_updates)
        super().step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        self.ended.append(self.model._n_updates)
        return super().step_wait()


def watched(**kwargs: Any) -> tuple[DREAM, Watched]:
    env = Watched()
    env.model = tiny(env, learning_starts=8, **kwargs)
    return env.model, env


@pytest.mark.parametrize("overlap", [False, True])
def test_updates_are_made_where_they_belong(overlap: bool) -> None:
    model, env = watched(overlap_updates=overlap)
    model.learn(33)
    within = np.subtract(env.ended, env.begun)
    between = np.subtract(env.begun[1:], env.ended[:-1])
    assert (within if overlap else between).sum() == 6  # 2 rows a step, 8 an update: after 12, 16, ... 32 steps
    assert not (between if overlap else within).any()
    assert model._n_updates == 6


def test_the_last_updates_stay_owed_until_learning_goes_on() -> None:
    model, _ = watched(overlap_updates=True)
    model.learn(32)
    assert (model._n_updates, model._owed_updates) == (5, 1.0)
    model.learn(1, reset_num_timesteps=False)
    assert (model._n_updates, model._owed_updates) == (6, 0.25)


def test_the_policy_acts_as_outside_of_training() -> None:
    acted: list[bool] = []
    model, _ = watched(overlap_updates=True, train_freq=4)
    act = model.policy.act
    model.policy.act = lambda *args: acted.append(model.policy.training) or act(*args)  # type: ignore[func-returns-value]
    model.learn(40)
    assert len(acted) == 40 and not any(acted)


def test_an_update_that_fails_leaves_the_environments_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SubprocVecEnv([lambda: Monitor(SavedWalk())] * 2)
    try:
        model = tiny(env, overlap_updates=True)
        train = DREAM.train

        def failing(self: DREAM, gradient_steps: int, batch_size: int) -> None:
            if self.num_timesteps >= 24:
                raise FloatingPointError("as if a loss were NaN")
            train(self, gradient_steps, batch_size)

        with monkeypatch.context() as patched:
            patched.setattr(DREAM, "train", failing)
            with pytest.raises(FloatingPointError):
                model.learn(60)
        model.learn(20, reset_num_timesteps=False)
        assert model.num_timesteps >= 44
    finally:
        env.close()
