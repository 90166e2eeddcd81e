"""The small deterministic model: its sizes, its rewards, its recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_dream.nn.recurrence import RecurrentStack
from sb3_dream.spaces import ActionSpec, ObservationSpec
from sb3_dream.world_models.base import Sequences, State
from sb3_dream.world_models.compact import CompactWorldModel
from tests.sb3_dream.corridor import ACTION_SPEC, sequences, spec

BOARD = ObservationSpec(spaces.Box(0.0, 1.0, (212,), np.float32), {"binary": True})


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts() -> None:
    model = CompactWorldModel(BOARD, ActionSpec(spaces.Discrete(8)))
    assert count(model.encoder) == 212 * 128 + 128 + 128 * 16 + 16
    assert count(model.rnn) == 3 * (24 * 16 + 16 * 16 + 2 * 16)
    assert count(model.decoder) == 16 * 128 + 128 + 128 * 212 + 212
    assert count(model.reward_head) == count(model.continue_head) == 16 * 128 + 128 + 128 + 1
    assert count(model) == 65_478
    assert model.feature_layout.size == 212


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_larger_sizes(cell: Any) -> None:
    model = CompactWorldModel(BOARD, ActionSpec(spaces.Discrete(800)), memory=400, layers=2, cell=cell)
    gates = 3 if cell == "gru" else 4
    inputs = 16 + 800
    assert count(model.rnn) == gates * 400 * (inputs + 400 + 2 + 400 + 400 + 2)
    assert model.memory_size == 2 * 400 * (2 if cell == "lstm" else 1)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent_stack_is_torchs(cell: Any) -> None:
    """Same numbers as the multi-layer module of PyTorch, with all that it carries in the memory."""
    th.manual_seed(0)
    stack = RecurrentStack(inputs=5, hidden=4, layers=3, cell=cell)
    reference = (nn.LSTM if cell == "lstm" else nn.GRU)(5, 4, num_layers=3)
    own = list(stack.parameters())
    reference.load_state_dict(dict(zip(reference.state_dict(), own, strict=True)))
    inputs, memory = th.randn(6, 2, 5), th.randn(2, stack.memory_size)
    parts = memory.reshape(2, 3, -1, 4)  # (N, layers, output and cell, hidden)
    carried = tuple(parts[:, :, i].transpose(0, 1).contiguous() for i in range(parts.shape[2]))
    outputs, last = reference(inputs, carried if cell == "lstm" else carried[0])
    memories = stack(inputs, memory)
    th.testing.assert_close(stack.output(memories), outputs)
    expected = th.stack(last if cell == "lstm" else (last,), 2).transpose(0, 1).flatten(1)
    th.testing.assert_close(memories[-1], expected)


def test_recurrent_stack_refuses() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        RecurrentStack(inputs=5, hidden=4, layers=0)


def test_features_are_the_observation() -> None:
    model = CompactWorldModel(spec("bits"), ACTION_SPEC)
    percept = (th.rand(3, 8) < 0.5).float()
    assert th.equal(model.features(State(model.initial_memory(3), percept)), percept)


def test_imagined_bits_are_bits() -> None:
    model = CompactWorldModel(spec("bits"), ACTION_SPEC)
    state = State(model.initial_memory(3), (th.rand(3, 8) < 0.5).float())
    percept = model.step(state, th.eye(2)[[0, 1, 0]]).percept
    assert ((percept == 0) | (percept == 1)).all()
    assert percept.requires_grad


def test_large_rare_rewards_have_an_unbiased_prediction() -> None:
    """A reward of 50 that comes one time in five, unforeseeably, is worth 10; the symlog's mean would say 1.2."""
    th.manual_seed(0)
    model = CompactWorldModel(spec("bits"), ACTION_SPEC, width=32)
    optimizer = th.optim.Adam(model.parameters(), lr=0.01)
    shape = (50, 3)
    base = Sequences(
        observation={"vector": th.zeros(*shape, 8)},
        action=th.eye(2)[th.zeros(shape, dtype=th.long)],
        reward=th.zeros(shape),
        terminated=th.zeros(shape),
        valid=th.ones(shape),
        memory=model.initial_memory(50),
        mask=None,
    )
    for _ in range(300):
        lucky = th.stack([th.randperm(50) < 10 for _ in range(3)], 1)
        losses = model.observe(base._replace(reward=50.0 * lucky)).losses
        optimizer.zero_grad()
        sum(losses.values(), th.zeros(())).backward()
        optimizer.step()
    state = State(model.initial_memory(1), th.zeros(1, 8))
    arrived = model.step(state, th.eye(2)[:1])
    assert model.outcome(state, th.eye(2)[:1], arrived).reward.item() == pytest.approx(10.0, abs=1.0)


def test_reward_scale_moves_in_training_only() -> None:
    model = CompactWorldModel(spec("bits"), ACTION_SPEC)
    batch = sequences(model, "bits", batch=4, length=5)
    batch = batch._replace(reward=100 * th.ones_like(batch.reward))
    model.eval()
    model.observe(batch)
    assert model.reward_moments.rms == 1.0
    model.train()
    model.observe(batch)
    assert model.reward_moments.rms == pytest.approx(100.0)
