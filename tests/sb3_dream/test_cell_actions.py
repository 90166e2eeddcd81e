"""Actions that are about the cells of a picture: what is learned in one column holds in all of them."""

import numpy as np
import torch as th
import torch.nn.functional as F
from gymnasium import spaces

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.nn.grid import GridNet, Layout
from sb3_dream.spaces import VECTOR, ActionSpec, ObservationSpec
from sb3_dream.world_models import RecurrentWorldModel
from sb3_dream.world_models.base import Sequences, State

ROWS, COLUMNS, DEPTH = 3, 6, 2
CELLS, ACTIONS = ROWS * COLUMNS, ROWS * COLUMNS * DEPTH
LAYOUT = {
    "binary": True,
    "grids": [{"start": 0, "rows": ROWS, "columns": COLUMNS}],
    "actions": {"rows": ROWS, "columns": COLUMNS, "depth": DEPTH},
}
OBSERVATION_SPEC = ObservationSpec(spaces.Box(0.0, 1.0, (CELLS,), np.float32), LAYOUT)
ACTION_SPEC = ActionSpec(spaces.Discrete(ACTIONS), LAYOUT)


def world_model(reach: int = 1) -> RecurrentWorldModel:
    th.manual_seed(0)
    return RecurrentWorldModel(OBSERVATION_SPEC, ACTION_SPEC, ACTIONS, width=16, depth=2, memory=4, reach=reach)


def test_a_policy_knows_in_a_column_what_it_learned_in_others() -> None:
    th.manual_seed(0)
    pictures = th.eye(CELLS)  # one cell is lit, and the second action about it is right
    right = DEPTH * th.arange(CELLS) + 1
    hidden = th.arange(CELLS) % COLUMNS == 2
    policy = ActorCritic(OBSERVATION_SPEC.layout, ACTION_SPEC, width=32)
    optimizer = th.optim.Adam(policy.actor_parameters(), lr=3e-3)
    for _ in range(100):
        log_prob = policy.actions(pictures[~hidden]).log_prob(right[~hidden, None].float())
        optimizer.zero_grad()
        (-log_prob.mean()).backward()
        optimizer.step()
    assert policy.actions(pictures[hidden]).mode().squeeze(-1).tolist() == right[hidden].tolist()


def test_trunks_treat_columns_alike_where_there_are_some() -> None:
    keys = ActionSpec(spaces.Discrete(8))
    policy, plain = (ActorCritic(layout, keys) for layout in (OBSERVATION_SPEC.layout, Layout(CELLS)))
    for trunks, kind in ((policy, GridNet), (plain, th.nn.Linear)):
        assert all(isinstance(trunk[0], kind) for trunk in (trunks.actor_trunk, trunks.critic_trunk))
    told = ActorCritic(OBSERVATION_SPEC.layout, keys, net_arch=(256, 256))
    assert str(told) == str(plain)


def test_a_shared_trunk_has_one_head_for_all_columns() -> None:
    policy = ActorCritic(OBSERVATION_SPEC.layout, ACTION_SPEC, share_trunk=True)
    distribution, values = policy.evaluate(th.zeros(5, CELLS), None)
    assert distribution.sample().shape == (5, 1)
    assert len(values) == 5


def test_the_columns_around_are_told() -> None:
    model = world_model(reach=2)
    action = ACTION_SPEC.encode(th.tensor([[(1 * COLUMNS + 1) * DEPTH]]))
    acted = model._acted(action)
    assert acted.columns is not None and acted.loose is None
    assert acted.columns.shape == (1, COLUMNS, (2 * 2 + 1) * ROWS * DEPTH)
    assert acted.columns[0].sum(-1).tolist() == [1, 1, 1, 1, 0, 0]  # two on either side, as far as there are any
    assert len({int(column.argmax()) for column in acted.columns[0, :4]}) == 4  # each is told how far away it is


def test_masks_and_dynamics_are_learned() -> None:
    """An action lights its cell; what is lit may not be chosen again."""
    model = world_model()
    optimizer = th.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        before = (th.rand(64, CELLS) < 0.3).float()
        cells = th.randint(CELLS, (64,))
        after = before.clone()
        after[th.arange(64), cells] = 1.0
        observation = th.stack((before, after), 1)  # (B, 2, V)
        action = ACTION_SPEC.encode((DEPTH * cells)[:, None, None].float().expand(-1, 2, 1))
        nothing, everything = th.zeros(64, 2), th.ones(64, 2)
        mask = (1 - observation).repeat_interleave(DEPTH, -1)
        memory = model.initial_memory(64)
        sequences = Sequences({VECTOR: observation}, action, nothing, nothing, everything, memory, mask)
        losses = model.observe(sequences).losses
        optimizer.zero_grad()
        sum(losses.values(), th.zeros(())).backward()
        optimizer.step()
    with th.no_grad():
        state = State(memory, before)
        expected = F.one_hot(cells, CELLS).float().maximum(before)
        imagined, _ = model.advance(state, action[:, 0])
        assert (imagined.percept == expected).all(-1).float().mean() > 0.9
        allowed = model.action_mask(state)
        assert allowed is not None
        assert (allowed == mask[:, 0].bool()).all(-1).float().mean() > 0.9
