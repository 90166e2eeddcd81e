"""What a GPU is told of without being waited for, and replay that lies there. No GPU is needed: see meta.py."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th

from sb3_dream.dream import DREAM
from sb3_dream.dreams import Dreams
from sb3_dream.nn.optimization import FiniteCheck
from sb3_dream.nn.transfers import Later, to_device
from sb3_dream.replay_columns import TensorColumn
from tests.sb3_dream.meta import to_meta
from tests.sb3_dream.replay_model import random_pair
from tests.sb3_dream.tiny import MaskedWalk, Walk, parameters, tiny

META = th.device("meta")
CASES: dict[str, dict[str, Any]] = {
    "masks": {"env": MaskedWalk, "reward_batch_size": 2, "rare_rewards": True},
    "long dreams": {"env": Walk, "dream_length": 8, "before_reward_fraction": 0.3, "novelty_coef": 0.5},
    "continuous": {"env": lambda: gym.make("Pendulum-v1", max_episode_steps=10), "reward_batch_size": 2},
    "rssm": {"env": Walk, "policy_kwargs": {"world_model": "rssm"}},
    "compact": {"env": MaskedWalk, "policy_kwargs": {"world_model": "compact"}},
}


class LaterOnes(Later):
    """All that is looked at later is finite, and goes on."""

    def get(self) -> th.Tensor:
        return th.ones(self._tensor.shape, dtype=self._tensor.dtype)


def made(case: str, **kwargs: Any) -> DREAM:
    arguments = CASES[case] | kwargs
    return tiny(arguments.pop("env")(), **arguments)


@pytest.mark.parametrize("case", CASES)
def test_an_update_waits_for_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(case).learn(40)
    to_meta(model.policy)
    model.device = model.replay_buffer.device = META
    for column in model.replay_buffer._columns():
        if isinstance(column, TensorColumn):
            column.device, column.data = META, column.data.to(META)
    model._dreams, model._finite = Dreams(model.imagination_starts), FiniteCheck(late=True)
    for module in ("dreams", "nn.optimization"):
        monkeypatch.setattr(f"sb3_dream.{module}.Later", LaterOnes)
    monkeypatch.setattr("torch.nn.utils.clip_grad._device_has_foreach_support", lambda device: True)  # a GPU has it
    before = model._n_updates
    model.train(6, model.batch_size)
    assert model._n_updates == before + 6
    assert {parameter.device for parameter in model.policy.parameters()} == {META}
    assert model._scalars and {total.device for total, _ in model._scalars.values()} == {META}


@pytest.mark.parametrize("case", CASES)
def test_what_is_looked_at_later_learns_the_same(case: str) -> None:
    logged: list[dict[str, Any]] = []
    found = []
    for late in (False, True):
        model = made(case)
        model._finite = FiniteCheck(late)
        model.learn(60, log_interval=1)
        assert not late or model._scalars  # since the last log
        model._record_scalars()
        logged.append({k: v for k, v in model.logger.name_to_value.items() if k.startswith("train/")})
        found.append(parameters(model))
    assert all(th.equal(found[0][name], parameter) for name, parameter in found[1].items())
    assert logged[0] == pytest.approx(logged[1])


def test_training_stops_one_step_later_and_is_not_spoilt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(Walk()).learn(20)
    model._finite = FiniteCheck(late=True)
    observe = model.policy.world_model.observe

    def spoilt(sequences: Any) -> Any:
        observed = observe(sequences)
        observed.losses["reward"] = observed.losses["reward"] * th.nan
        return observed

    monkeypatch.setattr(model.policy.world_model, "observe", spoilt)
    with pytest.raises(FloatingPointError, match=r"^world_model/reward became NaN or infinite in update"):
        model.learn(20, reset_num_timesteps=False)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())


def test_the_processor_shares_what_is_already_there() -> None:
    values = np.arange(3.0)
    assert to_device(values, th.device("cpu")).data_ptr() == values.ctypes.data
    tensor = th.arange(3.0, requires_grad=True)
    assert th.equal(Later(tensor).get(), tensor) and not Later(tensor).get().requires_grad


def test_rows_lie_where_they_are_told_to() -> None:
    buffer = random_pair(0, 2, 30, 40).buffer
    assert {column.device.type for column in buffer._columns()} == {"cpu"}
    model = tiny(Walk(), replay_buffer_kwargs={"storage_device": "meta"})
    rows = model.replay_buffer._rows
    assert {column.device.type for column in rows.columns} == {"cpu", "meta"}
    assert rows.reward.device.type == rows.flags.device.type == "cpu"
    assert rows.memory.device == rows.action.device == rows.observations[""].device == META
