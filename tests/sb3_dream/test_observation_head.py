"""Continuous values: how probable a change is said to be, which changes are imagined, and what outliers do to both."""

from __future__ import annotations

import math

import pytest
import torch as th

from sb3_dream.nn.distributions import symexp, symlog
from sb3_dream.nn.grid import Layout
from sb3_dream.spaces import Segment
from sb3_dream.world_models.observation_head import ObservationHead

VALUES = 3
SCALE = math.exp(-2.0 + 3.0 * math.tanh(1 / 3))  # of a head whose outputs are 0


def head_of(heavy_tails: bool, width: int = 4) -> ObservationHead:
    return ObservationHead((Segment("continuous", 0, VALUES),), Layout(VALUES), width, heavy_tails)


def expected(heavy_tails: bool) -> th.distributions.Distribution:
    """Of the change of a value, by an untrained head: around 0."""
    zero, scale = th.tensor(0.0), th.tensor(SCALE)
    return th.distributions.StudentT(4.0, zero, scale) if heavy_tails else th.distributions.Normal(zero, scale)


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_the_loss_is_the_negative_log_density_of_the_change(heavy_tails: bool) -> None:
    before = th.tensor([[0.0, 1.0, -30.0]])
    change = th.tensor([[0.01, -0.4, 7.0]])
    parameters = {"values": th.zeros(2, 1, VALUES)}
    loss = head_of(heavy_tails).loss(parameters, before, symexp(symlog(before) + change))
    th.testing.assert_close(loss, -expected(heavy_tails).log_prob(change).sum(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("heavy_tails", [False, True])
@pytest.mark.parametrize("noise", [1.0, 0.5])
def test_imagined_changes_are_distributed_as_the_loss_says(heavy_tails: bool, noise: float) -> None:
    th.manual_seed(0)
    before = th.zeros(20_000, VALUES)
    sampled = head_of(heavy_tails).sample({"values": th.zeros(2, 20_000, VALUES)}, before, noise=noise)
    change = symlog(sampled).flatten() / noise
    for bound in (0.1, 0.5, 1.0, 3.0):
        inside = (change.abs() < bound * SCALE).float().mean().item()
        if heavy_tails:
            bound = bound / math.sqrt(4 + bound**2)  # of Student's t with 4 degrees of freedom, in closed form
            probability = bound * (3 - bound**2) / 2
        else:
            probability = math.erf(bound / math.sqrt(2))
        assert inside == pytest.approx(probability, abs=0.01)


def test_the_most_probable_change_is_imagined_without_noise() -> None:
    before, values = th.randn(5, VALUES), th.randn(2, 5, VALUES)
    sampled = head_of(heavy_tails=True).sample({"values": values}, before, noise=0.0)
    th.testing.assert_close(sampled, symexp(symlog(before) + values[0]))


def test_a_few_steps_that_are_far_off_hide_the_others_from_a_gaussian_only() -> None:
    def error(heavy_tails: bool) -> float:
        """Of the most probable change, in units of the usual one, where one step in 50 is a collision."""
        th.manual_seed(0)
        head = head_of(heavy_tails, width=8)
        optimizer = th.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(400):
            features = th.randn(128, 1, 8)
            usual = 0.01 * features[:, 0, :VALUES]
            hit = (th.rand(128, 1) < 0.02).float()
            before = th.zeros(128, VALUES)
            after = symexp(usual + hit * th.randn(128, VALUES))
            head.update_scale(before, after, th.ones(128))
            loss = head.loss(head(features, before), before, after).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with th.no_grad():
            imagined = symlog(head.sample(head(features, before), before, noise=0.0))
        return ((imagined - usual).abs().mean() / 0.01).item()

    robust, gaussian = error(heavy_tails=True), error(heavy_tails=False)
    assert robust < 0.2
    assert gaussian > 2 * robust


def unit_head(find_bits: bool = True) -> ObservationHead:
    """Of a value of any size, and of one from 0 to 1."""
    segments = (Segment("continuous", 0, 1), Segment("continuous", 1, 1, unit=True))
    return ObservationHead(segments, Layout(2), 8, find_bits=find_bits)


def imagined_contacts(head: ObservationHead) -> tuple[th.Tensor, th.Tensor]:
    """Trained where the second value comes on in every fourth step, if the first feature says that it may at all.

    :return: the second value as it is imagined, after a 0, where it may come on and where not
    """
    th.manual_seed(0)
    optimizer = th.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(400):
        features = th.randn(256, 1, 8)
        features[:, 0, 0] = near = (features[:, 0, 0] > 0).float()
        contact = near * (th.rand(256) < 0.25).float()
        before = th.zeros(256, 2)
        after = th.stack((0.01 * features[:, 0, 1], contact), -1)
        head.update_scale(before, after, th.ones(256))
        loss = head.loss(head(features, before), before, after).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features = th.randn(4_000, 1, 8)
    features[:, 0, 0] = near = (th.arange(4_000) < 2_000).float()
    with th.no_grad():
        before = th.zeros(4_000, 2)
        contact = head.sample(head(features, before), before, noise=0.0)[:, 1]
    return contact[near > 0], contact[near == 0]


def test_bits_of_a_space_of_floats_are_imagined_as_often_as_they_come_on() -> None:
    near, far = imagined_contacts(unit_head())
    assert set(near.tolist()) == {0.0, 1.0}
    assert near.mean().item() == pytest.approx(0.25, abs=0.05)
    assert far.mean().item() < 0.1
    assert imagined_contacts(unit_head(find_bits=False))[0].max() < 0.5  # the most probable change is none


def test_a_value_is_a_number_once_it_was_something_else_than_a_bit() -> None:
    head, rows = unit_head(), th.ones(4, 2)
    features = th.randn(4, 1, 8)
    head.update_scale(rows, rows, th.ones(4))
    assert head.sample(head(features, rows), rows)[:, 1].unique().tolist() in ([0.0], [1.0], [0.0, 1.0])
    padding = rows.clone()
    padding[3, 1] = 0.5
    head.update_scale(rows, padding, th.tensor([1.0, 1.0, 1.0, 0.0]))
    bits = head.loss(head(features, rows), rows, rows)
    head.update_scale(rows, padding, th.ones(4))
    assert not th.allclose(bits, head.loss(head(features, rows), rows, rows))
    assert not set(head.sample(head(features, rows), rows)[:, 1].tolist()) & {0.0, 1.0}
    assert not any("numbers" in name for name in unit_head(find_bits=False).state_dict())
