"""The recurrent state-space model's own properties: KL balance, free nats, unimix, straight-through, images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
import torch.nn.functional as F
from gymnasium import spaces

from sb3_dream.nn.distributions import draw, symlog, unimix_probabilities
from sb3_dream.nn.recurrence import BlockGRU, BlockLinear
from sb3_dream.spaces import ObservationSpec, Segment
from sb3_dream.world_models.base import State
from sb3_dream.world_models.decoders import ImageDecoder, ObservationDecoder, VectorDistribution, straight_through
from sb3_dream.world_models.encoders import ImageEncoder, ObservationEncoder
from sb3_dream.world_models.rssm import RSSMWorldModel, kl_losses
from tests.sb3_dream.corridor import ACTION_SPEC, sequences, spec


def make(**kwargs: Any) -> RSSMWorldModel:
    th.manual_seed(0)
    sizes = {"memory": 32, "blocks": 4, "groups": 3, "classes": 5, "hidden": 16, "width": 16, "channels": 4}
    return RSSMWorldModel(spec("bits"), ACTION_SPEC, **{**sizes, **kwargs})


def log_probs(*shape: int) -> th.Tensor:
    return th.randn(*shape).log_softmax(-1).requires_grad_()


@pytest.mark.parametrize(("blocks", "length"), [(1, 2), (4, 7), (4, 1)])
def test_the_scan_is_step_by_step_perception_with_its_gradients(blocks: int, length: int) -> None:
    model = make(blocks=blocks)
    with th.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * th.randn_like(parameter)
    batch = sequences(model, "bits", 3, length)
    encoded = th.randn(3, length, model.encoder.out_size, requires_grad=True)
    th.manual_seed(1)
    scanned = model._scan(encoded, batch)
    th.manual_seed(1)
    uniform = th.rand(length, 3, model.groups)

    memories, percepts, logits = [batch.memory], [], []
    for t in range(length):
        logits.append(model._posterior(memories[t], model.posterior_observation(encoded[:, t])))
        probabilities = unimix_probabilities(logits[t].unflatten(-1, (model.groups, -1)), model.unimix)
        hard = F.one_hot(draw(probabilities.detach(), uniform[t, ..., None], -1).squeeze(-1), model.classes)
        percepts.append(straight_through(hard.float(), probabilities).flatten(1))
        memories.append(model.remember(State(memories[t], percepts[t]), batch.action[:, t]))
    expected = th.stack(memories[:-1], 1), th.stack(percepts, 1), th.stack(logits, 1).flatten(0, 1)
    th.testing.assert_close(scanned, expected)

    weights = [th.randn_like(part) for part in expected]
    inputs = [encoded, *(p for name, p in model.named_parameters() if name.startswith(("posterior", "step", "gru")))]
    found, wanted = (
        th.autograd.grad(
            sum((part * w).sum() for part, w in zip(parts, weights, strict=True)), inputs, allow_unused=True
        )
        for parts in (scanned, expected)
    )
    for mine, theirs, tensor in zip(found, wanted, inputs, strict=True):
        th.testing.assert_close(mine, th.zeros_like(tensor) if theirs is None else theirs, rtol=1e-4, atol=1e-5)


def test_kl_balance_moves_one_side_each() -> None:
    th.manual_seed(0)
    posterior, prior = log_probs(4, 3, 5), log_probs(4, 3, 5)
    kl = kl_losses(posterior, prior, free_nats=0.0)
    expected = (posterior.exp() * (posterior - prior)).sum((-1, -2))
    th.testing.assert_close(kl.dynamics, expected)
    th.testing.assert_close(kl.representation, expected)
    to_posterior, to_prior = th.autograd.grad(kl.dynamics.sum(), (posterior, prior), allow_unused=True)
    assert to_posterior is None
    assert to_prior.abs().sum() > 0
    to_posterior, to_prior = th.autograd.grad(kl.representation.sum(), (posterior, prior), allow_unused=True)
    assert to_posterior.abs().sum() > 0
    assert to_prior is None


def test_free_nats_are_free() -> None:
    th.manual_seed(0)
    posterior, prior = log_probs(50, 3, 5), log_probs(50, 3, 5)
    kl = kl_losses(posterior, prior, free_nats=2.0)
    free = kl.divergence < 2.0
    assert 0 < free.sum() < 50
    assert (kl.dynamics[free] == 2.0).all()
    th.testing.assert_close(kl.dynamics[~free], kl.divergence[~free])
    (gradient,) = th.autograd.grad(kl.dynamics.sum(), prior)
    assert (gradient[free] == 0).all()
    assert (gradient[~free].abs().sum((-1, -2)) > 0).all()


def test_losses_are_weighted() -> None:
    batch = sequences(make(), "bits", batch=4, length=5)
    losses = []
    for weights in ((1.0, 0.1), (3.0, 0.7)):
        model = make(dynamics_weight=weights[0], representation_weight=weights[1], free_nats=0.0)
        th.manual_seed(1)
        losses.append(model.observe(batch).losses)
    th.testing.assert_close(losses[1]["dynamics"], 3 * losses[0]["dynamics"])
    th.testing.assert_close(losses[1]["representation"], 7 * losses[0]["representation"])
    th.testing.assert_close(losses[0]["representation"], 0.1 * losses[0]["dynamics"])


def test_unimix_keeps_every_class_possible() -> None:
    model = make(unimix=0.1)
    with th.no_grad():
        model.posterior[-1].weight.mul_(1e4)
        model.prior[-1].weight.mul_(1e4)
    memory = th.rand(20, 32)
    seen = model.posterior_observation(model.encoder({"vector": th.rand(20, 8)}))
    for logits in (model._posterior(memory, seen), model.prior(memory)):
        probabilities = model._log_probs(logits).exp()
        assert probabilities.min() >= 0.1 / 5 * 0.999
        assert probabilities.max() > 0.9
        th.testing.assert_close(probabilities.sum(-1), th.ones(20, 3))
    with pytest.raises(ValueError, match="unimix"):
        make(unimix=1.0)


def test_percepts_are_one_hot_and_pass_gradients_straight_through() -> None:
    model = make()
    batch = sequences(model, "bits", batch=4, length=5)
    observed = model.observe(batch)
    percept = observed.percept.unflatten(-1, (3, 5))
    assert ((percept == 0) | (percept == 1)).all()
    assert (percept.sum(-1) == 1).all()
    # the reward's loss reaches the first observation's encoding through the latents and the memory
    model.zero_grad()
    features = model.features(State(observed.memory[:, -1], observed.percept[:, -1]))
    (features * th.randn_like(features)).sum().backward()
    weight = model.encoder.vector[0].weight
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_evaluation_perceives_the_most_probable_latents() -> None:
    model = make()
    observation = {"vector": th.rand(200, 8)}
    memory = th.rand(200, 32)
    assert not th.equal(model.perceive(memory, observation).percept, model.perceive(memory, observation).percept)
    model.eval()
    assert th.equal(model.perceive(memory, observation).percept, model.perceive(memory, observation).percept)


def test_memory_stays_bounded() -> None:
    th.manual_seed(0)
    gru = BlockGRU(inputs=6, memory=8, blocks=2)
    memory = th.zeros(5, 8)
    for _ in range(200):
        memory = gru(10 * th.randn(5, 6), memory)
    assert memory.abs().max() <= 1.0
    assert memory.abs().max() > 0.1


def test_blocks_do_not_mix() -> None:
    layer = BlockLinear(inputs=6, outputs=9, blocks=3)
    x = th.randn(4, 6)
    y = layer(x)
    changed = x.clone()
    changed[:, 2:4] += 1.0
    moved = (layer(changed) != y).any(-1).any(0)
    assert moved.tolist() == [False, True, False]
    dense = th.block_diag(*layer.weight.detach())
    th.testing.assert_close(y.flatten(1), x @ dense + layer.bias.flatten())
    with pytest.raises(ValueError, match="5 blocks"):
        BlockLinear(inputs=6, outputs=10, blocks=5)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 13), (3, 4, 30), (3, 7, 7), (4, 64, 64), (1, 84, 84), (3, 95, 96)])
def test_images_of_any_size(shape: tuple[int, int, int]) -> None:
    encoder = ImageEncoder(shape, channels=4)
    features = encoder(th.rand(2, *shape))
    assert features.shape == (2, encoder.out_size)
    image = ImageDecoder(10, shape, channels=4)(th.randn(2, 10))
    assert image.shape == (2, *shape)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 13), (3, 33, 21)])
def test_every_pixel_is_seen_and_drawn(shape: tuple[int, int, int]) -> None:
    th.manual_seed(0)
    image = th.rand(1, *shape, requires_grad=True)
    features = ImageEncoder(shape, channels=4)(image)
    (features * th.randn_like(features)).sum().backward()
    assert image.grad is not None
    assert (image.grad != 0).all()
    decoded = ImageDecoder(10, shape, channels=4)(th.randn(2, 10))
    assert (decoded[0] != decoded[1]).all()


def test_images_that_are_none() -> None:
    with pytest.raises(ValueError, match="at least 4 x 4 pixels, not 3 x 8"):
        ImageEncoder((3, 3, 8), channels=4)
    with pytest.raises(ValueError, match="channels, rows, columns"):
        ImageEncoder((8, 8), channels=4)


def test_dictionaries_of_images_and_vectors() -> None:
    observation_spec = ObservationSpec(
        spaces.Dict(
            {
                "camera": spaces.Box(0, 255, (3, 12, 10), np.uint8),
                "speed": spaces.Box(-5.0, 5.0, (2,), np.float32),
                "map": spaces.Box(0, 255, (1, 8, 8), np.uint8),
                "gear": spaces.Discrete(4),
            }
        )
    )
    encoder = ObservationEncoder(observation_spec, width=16, layers=1, channels=4)
    decoder = ObservationDecoder(7, observation_spec, width=16, layers=1, channels=4)
    observation = {"camera": th.rand(5, 3, 12, 10), "map": th.rand(5, 1, 8, 8), "vector": th.rand(5, 6)}
    encoded = encoder(observation)
    assert encoded.shape == (5, encoder.out_size)
    for key in observation:
        changed = {**observation, key: 1 - observation[key]}
        assert not th.allclose(encoder(changed), encoded)
    features = th.randn(5, 7)
    decoded = decoder(features)
    losses = decoder.losses(features, observation)
    assert set(decoded) == set(losses) == set(observation)
    assert all(loss.shape == (5,) for loss in losses.values())
    squared = (decoded["camera"] - observation["camera"]).square().sum((1, 2, 3))
    th.testing.assert_close(losses["camera"], squared)


def test_vector_distribution() -> None:
    segments = (Segment("bits", 0, 2), Segment("code", 2, 1), Segment("continuous", 3, 1), Segment("onehot", 4, 3))
    distribution = VectorDistribution(segments)
    assert len(distribution.runs) == 3  # bits and code in one pass
    output = th.tensor([[2.0, -1.0, 0.5, -1.2, 0.0, 3.0, 1.0]], requires_grad=True)
    target = th.tensor([[1.0, 0.0, 0.0, -7.0, 0.0, 0.0, 1.0]])
    p = th.sigmoid(output[0, :3])
    expected = -th.log(p[0]) - th.log(1 - p[1]) - th.log(1 - p[2])
    expected = expected + (output[0, 3] - symlog(target[0, 3])) ** 2 - th.log_softmax(output[0, 4:], 0)[2]
    th.testing.assert_close(distribution.loss(output, target), expected[None])
    mode = distribution.mode(output)
    th.testing.assert_close(mode[:, 3], -(th.exp(th.tensor([1.2])) - 1))
    assert mode[0, [0, 1, 2, 4, 5, 6]].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    (gradient,) = th.autograd.grad((mode * th.arange(7)).sum(), output)
    th.testing.assert_close(gradient[0, 1], p[1] * (1 - p[1]))
    assert (gradient[0, 1:] != 0).all()
