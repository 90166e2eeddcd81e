"""A predicted picture that is looked at and corrected."""

import pytest
import torch as th
import torch.nn.functional as F
from gymnasium import spaces

from sb3_dream.nn.grid import Grid, Layout, together
from sb3_dream.nn.sight import Sight
from sb3_dream.spaces import VECTOR, ObservationSpec
from sb3_dream.world_models import make_world_model
from sb3_dream.world_models.base import Sequences
from sb3_dream.world_models.second_look import SecondLook
from tests.sb3_dream.corridor import ACTION_SPEC, sequences, spec

ROWS, COLUMNS = 6, 5
LAYOUT = Layout(2 + ROWS * COLUMNS, (Grid(1, ROWS, COLUMNS),))
PICTURE = slice(1, 1 + ROWS * COLUMNS)


def _look() -> tuple[SecondLook, Sight]:
    th.manual_seed(0)
    sight = Sight(LAYOUT, LAYOUT.grids, 1)
    return SecondLook(LAYOUT.grids, LAYOUT + sight.computed, width=16, depth=1), sight


def _logits(picture: th.Tensor) -> th.Tensor:
    """Sure of the picture (N, rows, columns), and of nothing else."""
    return F.pad(20 * picture.flatten(1) - 10, (1, 1))


def test_corrects_nothing_before_it_has_learned() -> None:
    look, sight = _look()
    logits, before = th.randn(7, LAYOUT.size), th.rand(7, LAYOUT.size)
    guess = look.guess(logits, before)
    assert th.equal(guess[:, PICTURE], (logits[:, PICTURE] > 0).float())
    assert th.equal(guess[:, [0, -1]], before[:, [0, -1]])
    corrected = look(logits, guess, together(LAYOUT.split(guess), sight(guess)))
    assert th.equal(corrected[:, PICTURE] > 0, logits[:, PICTURE] > 0)
    assert th.equal(corrected[:, [0, -1]], logits[:, [0, -1]])


def test_learns_from_few_examples_that_complete_rows_disappear() -> None:
    look, sight = _look()
    optimizer = th.optim.Adam(look.parameters(), 3e-3)

    def batch(n: int, completed: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        picture = (th.rand(n, ROWS, COLUMNS) < 0.5).float()
        picture[:, :, 0] = 0
        after = picture.clone()
        for i, row in enumerate(completed.tolist()):
            picture[i, row] = 1
            after[i] = th.cat((th.zeros(1, COLUMNS), picture[i, :row], picture[i, row + 1 :]))
        return picture, after

    def predict(picture: th.Tensor) -> th.Tensor:
        logits = _logits(picture)
        guess = look.guess(logits, th.zeros_like(logits))
        logits = look(logits, guess, together(LAYOUT.split(guess), sight(guess)))
        return logits[:, PICTURE].unflatten(-1, (ROWS, COLUMNS))

    seen, target = batch(64, th.randint(ROWS, (32,)))
    for _ in range(300):
        loss = F.binary_cross_entropy_with_logits(predict(seen), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fresh, expected = batch(256, th.randint(ROWS, (128,)))
    with th.no_grad():
        wrong = ((predict(fresh) > 0).float() != expected).float().sum((1, 2))
    untouched = (fresh != expected).float().sum((1, 2))
    assert untouched[:128].mean() > 4
    assert wrong[:128].mean() < 1  # other boards than the 32 that it learned from
    assert wrong[128:].mean() < 0.1


@pytest.mark.parametrize("second_look", [True, False])
def test_a_model_without_pictures_looks_once(second_look: bool) -> None:
    model = make_world_model("recurrent", spec("bits"), ACTION_SPEC, 2, width=32, depth=2, second_look=second_look)
    losses = model.observe(sequences(model, "bits", batch=4, length=3)).losses
    assert "first_look" not in losses


def test_the_first_look_need_not_learn_what_is_rare() -> None:
    th.manual_seed(0)
    space = spaces.MultiBinary(ROWS * COLUMNS)
    picture_spec = ObservationSpec(space, {"grids": [{"start": 0, "rows": ROWS, "columns": COLUMNS}], "binary": True})
    model = make_world_model("recurrent", picture_spec, ACTION_SPEC, width=32, depth=2)
    actions, cells = F.one_hot(th.randint(2, (8, 16)), 2).float(), (th.rand(8, 1, ROWS * COLUMNS) < 0.5).float()
    nothing = th.zeros(8, 16)
    batch = Sequences(
        {VECTOR: cells.repeat(1, 16, 1)}, actions, nothing, nothing, nothing + 1, model.initial_memory(8), None
    )
    usual = model.observe(batch).losses
    strange = batch.observation[VECTOR].clone()
    strange[3, -1] = 1 - strange[3, -1]
    losses = model.observe(batch._replace(observation={VECTOR: strange})).losses
    assert losses["first_look"] < usual["first_look"] + 0.05
    assert losses["observation"] > usual["observation"] + 0.3


def test_matrices_decay_and_nothing_else() -> None:
    model = make_world_model("recurrent", spec("bits"), ACTION_SPEC, width=32, depth=2, weight_decay=0.5)
    optimizer = th.optim.Adam(model.parameter_groups(), 1e-2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = th.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        assert th.allclose(p, before[name] * (1 - 0.5e-2 if p.ndim > 1 else 1), rtol=1e-5), name
