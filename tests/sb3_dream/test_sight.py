"""What the world model sees behind the cells of a picture, and the outcomes that it learns from imagination."""

import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_dream.actor_critic import ActorCritic
from sb3_dream.nn.grid import Grid, Layout, together
from sb3_dream.nn.sight import Sight
from sb3_dream.spaces import ObservationSpec
from sb3_dream.world_models import make_world_model
from sb3_dream.world_models.base import State
from sb3_dream.world_models.recurrent import RecurrentWorldModel
from tests.sb3_dream.corridor import ACTION_SPEC, sequences, spec

PICTURE = """
.#..
.#.#
#..#
...#
##.#
"""
FIRST = """
.#..
.#.#
##.#
##.#
##.#
"""
SECOND = """
....
....
....
....
##..
"""


def cells(text: str) -> th.Tensor:
    return th.tensor([[float(cell == "#") for cell in line] for line in text.split()])


def test_cells_at_and_behind_each_run() -> None:
    grid = Grid(1, rows=5, columns=4)
    layout = Layout(22, (grid,))
    sight = Sight(layout, (grid,), depth=2)
    vector = th.cat((th.tensor([0.3]), cells(PICTURE).flatten(), th.tensor([0.7]))).expand(3, -1)
    columns, loose = together(layout.split(vector), sight(vector))
    assert columns is not None and loose is not None
    assert 22 + sight.computed.size == 22 + 2 * 20 + 2 * 5 == columns[0].numel() + loose.shape[1]
    assert th.equal(loose[0, :2], th.tensor([0.3, 0.7]))
    assert th.equal(loose[0, 2:], th.tensor([0.0] * 9 + [1.0]))  # the last row lacks one cell, the others more
    seen = columns[0].unflatten(-1, (3, 5)).permute(1, 2, 0)  # (picture and two layers, rows, columns)
    assert th.equal(seen, th.stack([cells(text) for text in (PICTURE, FIRST, SECOND)]))


def test_rows_that_lack_no_cell_and_one() -> None:
    grid = Grid(0, rows=3, columns=4)
    sight = Sight(Layout(12, (grid,)), (grid,), depth=2)
    loose = sight(cells("#### ##.# ..##").flatten()[None]).loose
    assert loose is not None
    assert th.equal(loose.view(2, 3), th.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def test_as_a_flat_vector() -> None:
    grids = (Grid(1, rows=5, columns=4), Grid(21, rows=3, columns=4))
    layout = Layout(34, grids)
    sight = Sight(layout, grids, depth=2)
    x = (th.rand(6, 34) < 0.5).float()
    columns, loose = (layout + sight.computed).split(th.cat((x, *sight.vectors(x)), -1))
    expected = together(layout.split(x), sight(x))
    assert columns is not None and loose is not None
    assert th.equal(columns, expected.columns)
    assert th.equal(loose, expected.loose)


def told_model(shared: bool | str) -> tuple[RecurrentWorldModel, State]:
    layout = {"binary": True, "grids": [{"start": 0, "rows": 3, "columns": 4}]}
    seen = ObservationSpec(spaces.MultiBinary(12), layout)
    model = RecurrentWorldModel(seen, ACTION_SPEC, width=16, memory=4, clock=False, shared_sight=shared)
    return model, State(th.rand(1, 16), cells("#### ##.# ..##").flatten()[None])


@pytest.mark.parametrize("shared", [True, False])
def test_actor_and_critic_are_told(shared: bool) -> None:
    model, state = told_model(shared)
    assert model.critic_layout is None
    columns, loose = model.feature_layout.split(model.features(state))
    assert columns is not None
    assert columns.shape == (1, 4, 3 + 6 * shared + 4)  # the picture, two runs of each cell, the memory
    assert th.equal(columns[0, :, -4:].flatten(), state.memory[0])
    if shared:
        assert loose is not None
        assert th.equal(loose.view(2, 3), th.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    else:
        assert loose is None


def test_the_critic_alone_is_told() -> None:
    model, state = told_model("critic")
    features, unshared = model.features(state), told_model(False)[0]
    size = unshared.feature_layout.size
    assert model.feature_layout == unshared.feature_layout
    assert th.equal(features[:, :size], unshared.features(state))
    assert model.critic_layout is not None
    columns, loose = model.critic_layout.split(features)
    assert columns is not None and loose is not None
    assert columns.shape == (1, 4, 3 + 4 + 6)
    assert th.equal(loose.view(2, 3), th.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


@pytest.mark.parametrize("share_trunk", [False, True])
def test_what_only_the_critic_is_told_changes_only_its_values(share_trunk: bool) -> None:
    model, state = told_model("critic")
    networks = ActorCritic(model.feature_layout, ACTION_SPEC, model.critic_layout, width=8, share_trunk=share_trunk)
    for head in (networks.actor_head, networks.critic_head):
        nn.init.normal_(head.weight)
    features = model.features(state)
    other = features.clone()
    other[:, model.feature_layout.size :] = th.rand_like(other[:, model.feature_layout.size :])
    actors = [networks.actions(x).entropy() for x in (features, other)]
    both = [networks.evaluate(x, None) for x in (features, other)]
    assert th.equal(*actors) == th.equal(*(actor.entropy() for actor, _ in both)) == (not share_trunk)
    assert not th.equal(networks.values(features), networks.values(other))
    assert not th.equal(both[0][1], both[1][1])


def test_refuses_others_to_share_with() -> None:
    with pytest.raises(ValueError, match="shared_sight is true, false or 'critic', not 'actor'"):
        told_model("actor")


def test_no_sight_computes_nothing() -> None:
    layout = Layout(4, (Grid(0, 2, 2),))
    for sight in (Sight(layout, layout.grids, 0), Sight(layout, (), 2)):
        assert sight(th.rand(3, 4)) == (None, None)
        assert sight.computed == Layout(0)
    with pytest.raises(ValueError, match="0 or more, not -1"):
        Sight(layout, layout.grids, -1)


def test_outcomes_learned_from_imagination_ignore_the_real_next_observation() -> None:
    gradients = []
    for practice in (1.0, 0.0):
        th.manual_seed(0)
        model = make_world_model("recurrent", spec("bits"), ACTION_SPEC, 2, width=32, depth=2, practice=practice)
        batch = sequences(model, "bits", batch=4, length=2)
        spoiled = {key: value.clone() for key, value in batch.observation.items()}
        for value in spoiled.values():
            value[:, 1] = 1 - value[:, 1]
        losses = []
        for observation in (batch.observation, spoiled):
            th.manual_seed(1)
            losses.append(model.observe(batch._replace(observation=observation)).losses["continue"])
        gradients.append((losses[0] - losses[1]).abs().item())
    assert gradients[0] == 0
    assert gradients[1] > 0
