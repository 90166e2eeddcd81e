"""Actions: Gaussians squashed into (-1, 1), and categoricals."""

from __future__ import annotations

import pytest
import torch as th
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from sb3_dream.nn.actions import CategoricalActions, GaussianActions

PARAMETERS = th.tensor([[0.3, -1.0], [-2.0, 1.0], [1.5, -4.0]])  # raw mean and deviation of one component


@pytest.mark.parametrize("row", range(3))
def test_the_density_is_that_of_a_squashed_gaussian(row: int) -> None:
    one = GaussianActions(PARAMETERS[row : row + 1])
    squashed = TransformedDistribution(Normal(one.mean, one.std), TanhTransform())
    places = th.linspace(-0.999, 0.999, 101)[:, None]
    th.testing.assert_close(one.log_prob(places), squashed.log_prob(places).sum(-1), atol=1e-3, rtol=1e-4)
    grid = th.tanh(th.linspace(-7, 7, 20_001))
    density = one.log_prob(grid[:, None]).exp()
    assert th.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-3)
    entropy = -th.trapezoid(density * density.clamp(min=1e-30).log(), grid).item()
    many = GaussianActions(PARAMETERS[row].repeat(100_000, 1))
    th.manual_seed(0)
    assert many.entropy().mean().item() == pytest.approx(entropy, abs=0.02)
    assert many.sample().mean().item() == pytest.approx(th.trapezoid(density * grid, grid).item(), abs=0.01)


def test_components_are_independent() -> None:
    both = GaussianActions(th.tensor([[0.3, -2.0, -1.0, 1.0]]))
    alone = [GaussianActions(PARAMETERS[i : i + 1]) for i in range(2)]
    action = th.tensor([[0.1, -0.7]])
    apart = sum(one.log_prob(action[:, i : i + 1]) for i, one in enumerate(alone))
    th.testing.assert_close(both.log_prob(action), apart)
    th.testing.assert_close(both.mode(), th.cat([one.mode() for one in alone], -1))


@pytest.mark.parametrize("raw", [-1e4, -20.0, 20.0, 1e4])
def test_however_far_a_mean_is_everything_stays_finite(raw: float) -> None:
    parameters = th.tensor([[raw, 0.0]], requires_grad=True)
    policy = GaussianActions(parameters)
    for action in (th.tensor([[1.0]]), th.tensor([[-1.0]]), policy.sample().detach()):
        assert policy.log_prob(action).isfinite().all()
    (gradient,) = th.autograd.grad(policy.log_prob(th.tensor([[1.0]])).sum() + policy.entropy().sum(), parameters)
    assert gradient.isfinite().all()


def test_entropy_pushes_a_mean_away_from_the_bounds() -> None:
    th.manual_seed(0)
    parameters = th.tensor([[2.5, 0.0]]).repeat(1000, 1).requires_grad_()
    (gradient,) = th.autograd.grad(GaussianActions(parameters).entropy().mean(), parameters)
    assert gradient[:, 0].sum() < -0.5


def test_categoricals_are_drawn_as_often_as_they_say() -> None:
    logits = th.tensor([[2.0, 9.0, 1.0, -1.0, 3.0]])  # three choices and two
    mask = th.tensor([[True, False, True, True, True]])
    actions = CategoricalActions(logits.expand(40_000, 5), (3, 2), 0.1, mask.expand(40_000, 5))
    th.manual_seed(0)
    drawn = actions.sample()
    assert drawn.shape == (40_000, 2) and drawn.dtype == th.float32
    for first in (0, 2):
        for second in (0, 1):
            one = th.tensor([[float(first), float(second)]])
            frequency = (drawn == one).all(-1).float().mean()
            expected = CategoricalActions(logits, (3, 2), 0.1, mask).log_prob(one).exp()
            th.testing.assert_close(frequency, expected[0], rtol=0.0, atol=0.01)  # four standard deviations
    assert not (drawn[:, 0] == 1).any()


@pytest.mark.parametrize("unimix", [0.0, 0.1])
def test_the_most_probable_choice_is_an_allowed_one(unimix: float) -> None:
    th.manual_seed(0)
    logits, mask = th.randn(500, 7), th.rand(500, 7) < 0.4
    mask[:, 3] = True
    actions = CategoricalActions(logits, (7,), unimix, mask)
    mode = actions.mode()
    assert mask.gather(-1, mode.long()).all()
    th.testing.assert_close(actions.log_prob(mode), actions.log_probs[0].amax(-1))
    th.testing.assert_close(CategoricalActions(logits, (7,), unimix).mode(), logits.argmax(-1, keepdim=True).float())
