"""``cuda_graphs=True``: what is recorded and repeated learns the same, bit for bit. No GPU is needed: see tape.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch as th
from torch.utils._pytree import tree_leaves, tree_map_only

from sb3_dream.dream import DREAM
from sb3_dream.nn.graphs import Graphs
from sb3_dream.world_models.base import RareRewards, State
from tests.sb3_dream.meta import to_meta
from tests.sb3_dream.tape import record_on_processor
from tests.sb3_dream.tiny import MaskedWalk, Walk, parameters, tiny


def learned(env: gym.Env, steps: int, **kwargs: Any) -> dict[str, th.Tensor]:
    return parameters(tiny(env, **kwargs).learn(steps))


CASES: dict[str, dict[str, Any]] = {
    "masks": {"env": MaskedWalk, "reward_batch_size": 2, "rare_rewards": True},
    "novelty": {"env": Walk, "novelty_coef": 0.5, "n_epochs": 2, "n_minibatches": 2, "gamma_rise": (0, 50)},
    "continuous": {"env": lambda: gym.make("Pendulum-v1", max_episode_steps=10), "reward_batch_size": 2},
    "rssm": {"env": Walk, "policy_kwargs": {"world_model": "rssm"}},
    "compact": {"env": MaskedWalk, "policy_kwargs": {"world_model": "compact"}},
    "lstm": {"env": Walk, "policy_kwargs": {"world_model_kwargs": {"cell": "lstm", "reward_bins": 31}}},
    "Adam": {"env": Walk, "policy_kwargs": {"optimizer_class": th.optim.Adam}},
}


@pytest.mark.parametrize("case", CASES)
def test_recorded_updates_learn_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = dict(CASES[case])
    make_env = kwargs.pop("env")
    expected = learned(make_env(), 60, **kwargs)
    recorded, played = [], []

    def record(function: Any) -> Any:
        result, play = record_on_processor(function)
        recorded.append(result)

        def again() -> None:
            played.append(len(recorded))
            play()

        return result, again

    monkeypatch.setattr("sb3_dream.dream.recorder", lambda device: record)
    found = learned(make_env(), 60, cuda_graphs=True, **kwargs)
    assert len(recorded) >= 3
    assert len(played) > 20
    assert found.keys() == expected.keys()
    assert all(th.equal(found[name], parameter) for name, parameter in expected.items())


@pytest.mark.parametrize("case", CASES)
def test_what_is_recorded_needs_no_number_and_nothing_of_another_device(case: str) -> None:
    """On "meta", where tensors hold no numbers, both raise."""
    kwargs = dict(CASES[case])
    model = tiny(kwargs.pop("env")(), **kwargs).learn(40)
    policy = model.policy
    sequences, rewarded = (
        policy.encode_sequences(model.replay_buffer.sample_sequences(2, length)) for length in (4, 2)
    )
    rare = RareRewards(th.ones(()), th.ones(())) if model.rare_rewards else None
    to_meta(policy)
    sequences, rewarded, number = tree_map_only(
        th.Tensor,
        lambda tensor: tensor.to("meta"),
        (sequences._replace(rare=rare), rewarded._replace(rare=rare), th.ones(())),
    )
    found, observed = model._model_gradients(sequences, rewarded)
    start = State(observed.memory.flatten(0, 1), observed.percept.flatten(0, 1))
    _, steps, scalars = model._dream(start, number, number)
    behaviour = model._behaviour_gradients(steps, number)
    results = tree_leaves((found, observed, steps, scalars, behaviour))
    assert {leaf.device.type for leaf in results if isinstance(leaf, th.Tensor)} == {"meta"}


def add(x: dict[str, th.Tensor], y: tuple[th.Tensor, float]) -> th.Tensor:
    return x["a"] + y[0] * y[1]


def test_each_shape_and_each_number_is_recorded_for_itself() -> None:
    graphs, recorded = Graphs(lambda function: recorded.append(1) or record_on_processor(function)), []
    for call in range(8):
        for size in (2, 3):
            for factor in (1.0, 2.0):
                x = th.full((size,), float(call))
                assert th.equal(graphs.run(add, {"a": x}, (x, factor)), x + x * factor)
    assert len(recorded) == 4


def test_what_cannot_be_recorded_is_called_as_before() -> None:
    def at_least_one(x: th.Tensor) -> th.Tensor:
        return x if x.sum() > 1 else th.ones_like(x)  # looks at a number

    graphs = Graphs(record_on_processor)
    for _ in range(3):
        assert graphs.run(at_least_one, th.zeros(2)).sum() == 2
    with pytest.warns(UserWarning, match=r"^goes on without CUDA graphs: one could not be recorded \(aten::_local"):
        assert graphs.run(at_least_one, th.zeros(2)).sum() == 2
    assert graphs.run(at_least_one, 3 * th.ones(2)).sum() == 6


def test_on_a_processor_one_line_says_that_nothing_changes(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="^cuda_graphs=True changes nothing: the device is cpu$"):
        model = tiny(Walk(), cuda_graphs=True)
    expected, found = learned(Walk(), 20), parameters(model.learn(20))
    assert all(th.equal(found[name], parameter) for name, parameter in expected.items())
    model.save(tmp_path / "model.zip")
    with pytest.warns(UserWarning, match="changes nothing"):
        assert DREAM.load(tmp_path / "model.zip", device="cpu").cuda_graphs


def test_gradients_through_the_world_model_are_not_recorded() -> None:
    with pytest.raises(ValueError, match="cuda_graphs must be False with actor_gradient='dynamics', not True"):
        tiny("Pendulum-v1", actor_gradient="dynamics", cuda_graphs=True)
