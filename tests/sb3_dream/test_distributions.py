"""Distributions as plain tensor functions, against brute force."""

from __future__ import annotations

import pytest
import torch as th

from sb3_dream.nn.distributions import (
    TwoHot,
    categorical_entropy,
    categorical_kl,
    draw,
    log_unimix,
    sample_categorical,
    softmax,
    symexp,
    symlog,
    unimix_probabilities,
)


def test_symlog_and_symexp_are_inverse() -> None:
    x = th.tensor([-1e6, -30.0, -1.0, -1e-4, 0.0, 1e-4, 0.5, 20.0, 1e6])
    th.testing.assert_close(symexp(symlog(x)), x, rtol=1e-4, atol=1e-7)
    th.testing.assert_close(symlog(x), th.sign(x) * th.log(1 + x.abs()), rtol=1e-5, atol=1e-6)
    assert (symlog(x).diff() > 0).all()


@pytest.mark.parametrize("unimix", [0.0, 0.01, 0.3])
def test_log_unimix(unimix: float) -> None:
    logits = th.tensor([[0.0, 50.0, -3.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    expected = (1 - unimix) * logits.softmax(-1) + unimix / 4
    th.testing.assert_close(log_unimix(logits, unimix).exp(), expected)


@pytest.mark.parametrize("unimix", [0.0, 0.01, 0.3])
def test_masked_classes_are_impossible(unimix: float) -> None:
    logits = th.tensor([[5.0, 50.0, -3.0, 1.0], [0.0, 9.0, 0.0, 9.0], [1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    mask = th.tensor([[True, False, True, True], [False, False, True, False], [True, True, True, True]])
    log_probs = log_unimix(logits, unimix, mask)
    assert (log_probs.exp()[~mask] == 0).all()
    th.testing.assert_close(log_probs.exp().sum(-1), th.ones(3))
    assert log_probs[1, 2] == 0
    assert log_probs[mask].isfinite().all()
    if unimix:
        shares = unimix / mask.sum(-1, keepdim=True)
        assert (log_probs.exp() >= 0.999 * shares)[mask].all()
    entropy = categorical_entropy(log_probs)
    (gradient,) = th.autograd.grad(log_probs[mask].sum() + entropy.sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[~mask] == 0).all()
    assert (gradient[0, [0, 2, 3]] != 0).all()


@pytest.mark.parametrize("unimix", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("masked", [False, True])
def test_probabilities_and_their_logarithms_agree(unimix: float, masked: bool) -> None:
    logits = th.tensor([[5.0, 50.0, -3.0, 1.0], [0.0, 9.0, 0.0, 9.0], [1.0, 2.0, 3.0, 4.0]])
    mask = th.tensor([[True, False, True, True], [False, False, True, False], [True, True, True, True]])
    given = mask if masked else None
    expected = log_unimix(logits, unimix, given).exp()
    th.testing.assert_close(unimix_probabilities(logits, unimix, given), expected, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradients_of_a_mixture_are_those_of_its_values(masked: bool) -> None:
    th.manual_seed(0)
    logits = th.randn(3, 5, dtype=th.float64, requires_grad=True)
    mask = th.rand(3, 5) < 0.6 if masked else th.ones(3, 5, dtype=th.bool)
    mask[:, 0] = True

    def values(x: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        log_probs = log_unimix(x, 0.1, mask if masked else None)
        return log_probs[mask], categorical_entropy(log_probs)

    assert th.autograd.gradcheck(values, logits)


def test_masks_take_nothing_from_each_other() -> None:
    """A masked class, however probable, leaves the proportions of the allowed ones as they were."""
    logits = th.tensor([1.0, 100.0, 0.0])
    masked = log_unimix(logits, 0.0, th.tensor([True, False, True]))
    th.testing.assert_close(masked[[0, 2]], logits[[0, 2]].log_softmax(-1))


def test_sampling_has_the_right_frequencies() -> None:
    th.manual_seed(0)
    probabilities = th.tensor([0.5, 0.0, 0.2, 0.01, 0.29, 0.0])
    drawn = sample_categorical(probabilities.expand(40_000, 6)).squeeze(-1)
    assert drawn.dtype == th.int64
    frequencies = drawn.bincount(minlength=6) / 40_000
    th.testing.assert_close(frequencies, probabilities, rtol=0.0, atol=0.01)  # four standard deviations
    assert frequencies[1] == frequencies[5] == 0


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0 - 2**-24])
def test_sampling_never_takes_an_impossible_class(draw: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the ends of the random numbers' range neither, where rounding could push past the last class."""
    monkeypatch.setattr(th, "rand_like", lambda x: th.full_like(x, draw))
    th.manual_seed(0)
    mask = th.rand(500, 7) < 0.4
    mask[:, 3] = True
    index = sample_categorical(unimix_probabilities(3 * th.randn(500, 7), 0.01, mask))
    assert mask.gather(-1, index).all()


def test_sampling_keeps_leading_dimensions() -> None:
    assert sample_categorical(th.full((2, 3, 5), 0.2)).shape == (2, 3, 1)


def test_entropy_and_divergence() -> None:
    p = th.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    uniform = th.full((2, 3), 1 / 3).log()
    entropy = categorical_entropy(p.log())
    th.testing.assert_close(entropy, th.tensor([1.5 * th.log(th.tensor(2.0)), 0.0]))
    q = th.tensor([0.2, 0.3, 0.5]).log()
    expected = sum(a * (a.log() - b) for a, b in zip(p[0], q, strict=True))
    th.testing.assert_close(categorical_kl(p[0].log(), q), expected)
    th.testing.assert_close(categorical_kl(p[0].log(), uniform[0]), th.log(th.tensor(3.0)) - entropy[0])
    assert categorical_kl(q, q) == 0


def dense(bins: TwoHot, values: th.Tensor) -> th.Tensor:
    """(..., K) weights of all bins."""
    above, weight = (x.unsqueeze(-1) for x in bins.encode(values))
    weights = th.zeros(*values.shape, len(bins.centers)).scatter(-1, above - 1, 1 - weight)
    return weights.scatter(-1, above, weight)


@pytest.mark.parametrize("shape", [(2, 3, 5), (700, 3, 5), (400, 40)])
def test_softmax_of_few_and_of_many_classes(shape: tuple[int, ...]) -> None:
    logits = 3 * th.randn(*shape, dtype=th.float64)
    th.testing.assert_close(softmax(logits), logits.exp() / logits.exp().sum(-1, keepdim=True))


def test_draws_stay_inside_the_support() -> None:
    probabilities = th.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]]).expand(3, 5)
    largest = th.nextafter(th.ones(()), th.zeros(())).item()  # that is ever drawn
    uniform = th.tensor([[0.0], [0.5], [largest]])
    assert draw(probabilities, uniform, -1).tolist() == [[1], [3], [3]]
    assert draw(probabilities.t(), uniform.t(), 0).tolist() == [[1, 3, 3]]
    ends = th.cat((0.5 + th.rand(1000, 1), th.zeros(1000, 1)), -1)  # farther from 1 than rounding takes a sum
    assert not draw(ends, th.full((1000, 1), largest), -1).any()


@pytest.mark.parametrize("bins", [TwoHot(), TwoHot(63), TwoHot(5, -2.0, 3.0)])
def test_two_hot_round_trip(bins: TwoHot) -> None:
    low, high = bins.centers[0], bins.centers[-1]
    values = th.tensor([0.0, 1.0, -1.0, 0.3, -0.07, 2.5, 14.0, -200.0, 5000.0])
    values = values[(values >= low) & (values <= high)]
    encoded = dense(bins, values)
    th.testing.assert_close(encoded.sum(-1), th.ones(len(values)))
    assert (encoded >= 0).all()
    assert ((encoded > 0).sum(-1) <= 2).all()
    decoded = bins.decode(encoded.clamp(min=1e-30).log())
    th.testing.assert_close(decoded, values, rtol=1e-4, atol=1e-5)


def test_two_hot_weights_the_neighbours() -> None:
    bins = TwoHot(5, -2.0, 2.0)
    centers = bins.centers
    value = 0.25 * centers[3] + 0.75 * centers[4]
    th.testing.assert_close(dense(bins, value), th.tensor([0.0, 0.0, 0.0, 0.25, 0.75]))
    assert dense(bins, centers[0]).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert dense(bins, th.tensor(1e9)).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]  # beyond the bins: the last one
    assert dense(bins, th.tensor(-1e9)).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert dense(bins, th.zeros(2, 3)).shape == (2, 3, 5)


def test_two_hot_of_uniform_logits_is_exactly_zero() -> None:
    for size in (63, 255):
        assert (TwoHot(size).decode(th.zeros(4, size)) == 0).all()
        assert (TwoHot(size).decode(th.full((4, size), -3.7)) == 0).all()


def test_two_hot_loss_and_its_gradient() -> None:
    bins = TwoHot(7, -3.0, 3.0)
    th.manual_seed(0)
    logits, target = th.randn(10, 7, requires_grad=True), 5 * th.randn(10)
    loss = bins.loss(logits, target)
    assert loss.shape == (10,)
    (gradient,) = th.autograd.grad(loss.sum(), logits)
    th.testing.assert_close(gradient, logits.softmax(-1) - dense(bins, target))  # of a cross-entropy


def test_two_hot_losses_of_several_targets_add_up() -> None:
    bins = TwoHot(7, -3.0, 3.0)
    th.manual_seed(0)
    logits, weight = th.randn(10, 7, requires_grad=True), th.rand(10)
    first = 5 * th.randn(10)
    second = first + 0.1 * th.randn(10)  # mostly between the same bins
    together = bins.loss(logits, first, second)
    apart = -((dense(bins, first) + dense(bins, second)) * logits.log_softmax(-1)).sum(-1)
    th.testing.assert_close(together, apart)
    gradients = [th.autograd.grad((loss * weight).sum(), logits)[0] for loss in (together, apart)]
    th.testing.assert_close(*gradients)


def test_two_hot_learns_the_mean() -> None:
    """Not the median, and not the mean of logarithms: the expected value of what was seen."""
    bins = TwoHot(63)
    target = th.tensor([0.0, 0.0, 0.0, 40.0])
    logits = th.zeros(63, requires_grad=True)
    optimizer = th.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        bins.loss(logits.expand(4, 63), target).mean().backward()
        optimizer.step()
    assert bins.decode(logits).item() == pytest.approx(10.0, rel=0.02)


def test_two_hot_refuses_even_numbers_of_bins() -> None:
    for size in (1, 64):
        with pytest.raises(ValueError, match="odd number of bins"):
            TwoHot(size)
