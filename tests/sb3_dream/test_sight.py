"""What the world model sees behind the cells of a picture, and the outcomes that it learns from imagination."""

import pytest
import torch as th

from sb3_dream.nn.grid import Grid, Layout
from sb3_dream.nn.sight import ColumnSight
from sb3_dream.world_models import make_world_model
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
    grid = Grid(1, channels=5, columns=4)
    sight = ColumnSight(Layout(22, (grid,)), (grid,), depth=2)
    vector = th.cat((th.tensor([0.3]), cells(PICTURE).flatten(), th.tensor([0.7])))
    out = sight(vector.expand(2, 3, -1))
    assert out.shape == (2, 3, sight.layout.size) == (2, 3, 22 + 2 * 20)
    assert (out[..., :22] == vector).all()
    columns, loose = sight.layout.split(out[0])
    assert columns is not None and loose is not None
    assert th.equal(loose[0], th.tensor([0.3, 0.7]))
    seen = columns[0].unflatten(-1, (3, 5)).permute(1, 2, 0)  # (picture and two layers, rows, columns)
    assert th.equal(seen, th.stack([cells(text) for text in (PICTURE, FIRST, SECOND)]))


def test_no_sight_changes_nothing() -> None:
    layout = Layout(4, (Grid(0, 2, 2),))
    vector = th.rand(3, 4)
    assert ColumnSight(layout, layout.grids, 0)(vector) is vector
    assert ColumnSight(layout, (), 2)(vector) is vector
    with pytest.raises(ValueError, match="0 or more, not -1"):
        ColumnSight(layout, layout.grids, -1)


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
