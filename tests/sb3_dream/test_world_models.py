"""What every world model owes to the algorithm, and what each of them is for."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch as th
from gymnasium import spaces

from sb3_dream.spaces import ActionSpec, ObservationSpec
from sb3_dream.world_models import WORLD_MODELS, WorldModel, make_world_model
from sb3_dream.world_models.base import Observed, Sequences, State, allowed_actions, masked_mean
from tests.sb3_dream.corridor import ACTION_SPEC, CELLS, Kind, sequences, spec

SMALL: dict[str, dict[str, Any]] = {
    "recurrent": {"width": 32, "depth": 2, "memory": 16},
    "compact": {"width": 64, "memory": 32},
    "rssm": {"memory": 64, "blocks": 4, "groups": 4, "classes": 4, "hidden": 32, "width": 32, "channels": 4},
}
VARIANTS = [
    pytest.param("recurrent", {"cell": "gru"}, id="recurrent-gru"),
    pytest.param("recurrent", {"cell": "lstm"}, id="recurrent-lstm"),
    pytest.param("compact", {"cell": "gru"}, id="compact-gru"),
    pytest.param("compact", {"cell": "gru", "layers": 2}, id="compact-gru-2"),
    pytest.param("compact", {"cell": "lstm", "layers": 2}, id="compact-lstm-2"),
    pytest.param("rssm", {}, id="rssm"),
    pytest.param("rssm", {"blocks": 1}, id="rssm-dense"),
]
CASES = [
    *((name, kind) for name in ("recurrent", "compact") for kind in ("bits", "onehot", "continuous")),
    *(("rssm", kind) for kind in ("bits", "onehot", "continuous", "image", "dict")),
]
REQUIRED_LOSSES = {"observation", "reward", "continue", "mask"}


def make(name: str, kind: Kind = "bits", mask_size: int | None = 2, **kwargs: Any) -> WorldModel:
    th.manual_seed(0)
    return make_world_model(name, spec(kind), ACTION_SPEC, mask_size, **{**SMALL[name], **kwargs})


def observe(model: WorldModel, batch: Sequences) -> Observed:
    th.manual_seed(1)
    return model.observe(batch)


def row(batch: Sequences, t: int) -> dict[str, th.Tensor]:
    return {key: value[:, t] for key, value in batch.observation.items()}


def fit(model: WorldModel, batches: list[Sequences], updates: int, rate: float) -> list[float]:
    """The summed losses of every update."""
    optimizer = th.optim.Adam(model.parameters(), lr=rate)
    history = []
    for update in range(updates):
        loss = sum(model.observe(batches[update % len(batches)]).losses.values(), th.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_shapes(name: str, kind: Kind) -> None:
    model = make(name, kind)
    batch = sequences(model, kind, batch=5, length=7)
    observed = observe(model, batch)
    assert observed.memory.shape == (5, 7, model.memory_size)
    assert observed.percept.shape[:2] == (5, 7)
    assert len(REQUIRED_LOSSES & set(observed.losses)) >= 3
    assert all(loss.shape == () and loss.isfinite() and loss.requires_grad for loss in observed.losses.values())
    assert all(metric.shape == () and not metric.requires_grad for metric in observed.metrics.values())

    memory = model.initial_memory(5)
    assert memory.shape == (5, model.memory_size)
    state = model.perceive(memory, row(batch, 0))
    assert state.percept.shape == observed.percept[:, 0].shape
    assert model.features(state).shape == (5, model.feature_layout.size)
    arrived = model.step(state, batch.action[:, 0])
    assert arrived.memory.shape == state.memory.shape
    assert arrived.percept.shape == state.percept.shape
    outcome = model.outcome(state, batch.action[:, 0], arrived)
    assert outcome.reward.shape == outcome.continues.shape == (5,)
    assert ((outcome.continues > 0) & (outcome.continues < 1)).all()
    mask = model.action_mask(arrived)
    assert mask is not None
    assert mask.shape == (5, 2)
    assert mask.dtype == th.bool
    reconstructed = model.reconstruct(arrived)
    assert {key: value.shape for key, value in reconstructed.items()} == {
        key: value[:, 0].shape for key, value in batch.observation.items()
    }


@pytest.mark.parametrize("name", WORLD_MODELS)
def test_without_masks_there_is_no_mask(name: str) -> None:
    model = make(name, mask_size=None)
    batch = sequences(model, "bits", batch=3, length=4)
    assert batch.mask is None
    assert "mask" not in observe(model, batch).losses
    assert model.action_mask(model.perceive(model.initial_memory(3), row(batch, 0))) is None


@pytest.mark.parametrize(("name", "kwargs"), VARIANTS)
def test_memories_of_a_sequence_are_those_of_single_steps(name: str, kwargs: dict[str, Any]) -> None:
    model = make(name, **kwargs)
    batch = sequences(model, "bits", batch=4, length=9)
    batch = batch._replace(memory=0.5 * th.rand(4, model.memory_size))
    observed = observe(model, batch)
    th.manual_seed(1)  # latents are drawn in the same order
    memory = batch.memory
    for t in range(9):
        th.testing.assert_close(observed.memory[:, t], memory, rtol=1e-5, atol=1e-5)
        state = model.perceive(memory, row(batch, t))
        th.testing.assert_close(observed.percept[:, t], state.percept)
        memory = model.remember(state, batch.action[:, t])


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_padding_has_no_influence(name: str, kind: Kind) -> None:
    model = make(name, kind)
    batch = sequences(model, kind, batch=16, length=12)
    padding = batch.valid == 0
    assert padding.any()
    nonsense = sequences(model, kind, batch=16, length=12, seed=9)
    assert batch.mask is not None
    spoiled = Sequences(
        observation={
            key: th.where(padding.reshape(16, 12, *[1] * (value.dim() - 2)), nonsense.observation[key], value)
            for key, value in batch.observation.items()
        },
        action=th.where(padding[..., None], 1 - batch.action, batch.action),
        reward=th.where(padding, 100.0, batch.reward),
        terminated=th.where(padding, 1 - batch.terminated, batch.terminated),
        valid=batch.valid,
        memory=batch.memory,
        mask=th.where(padding[..., None], 1 - batch.mask, batch.mask),
    )
    gradients = []
    for sequence in (batch, spoiled):
        copy = deepcopy(model)
        observed = observe(copy, sequence)
        sum(observed.losses.values(), th.zeros(())).backward()
        gradients.append((observed.losses, [p.grad for p in copy.parameters()]))
    th.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(("name", "kwargs"), VARIANTS)
def test_overfits_one_batch(name: str, kwargs: dict[str, Any]) -> None:
    model = make(name, **kwargs)
    batch = sequences(model, "bits", batch=8, length=6)
    history = fit(model, [batch], updates=150, rate=0.01)
    floor = 1.1 if name == "rssm" else 0.0  # the free nats stay
    assert history[-1] - floor < 0.1 * history[0]
    assert observe(model, batch).metrics["reward_error"] < 0.1


@pytest.mark.parametrize(("name", "kind"), [("rssm", "image"), ("rssm", "dict"), ("recurrent", "continuous")])
def test_overfits_other_observations(name: str, kind: Kind) -> None:
    model = make(name, kind)
    batch = sequences(model, kind, batch=8, length=5)
    before = observe(model, batch).losses
    fit(model, [batch], updates=100, rate=0.01)
    after = observe(model, batch).losses
    for key in after:
        if key.startswith("observation"):
            assert after[key] < min(0.25 * before[key], before[key] - 0.5)


@pytest.mark.parametrize(
    ("name", "kind", "length", "updates", "kwargs", "tolerated"),
    [
        ("recurrent", "bits", 16, 120, {"temperature": 0.0}, 0.0),
        # what is drawn at random may go astray in a few places
        ("recurrent", "onehot", 16, 260, {}, 0.02),
        ("compact", "bits", 6, 350, {}, 0.0),
        ("compact", "onehot", 6, 250, {"cell": "lstm"}, 0.0),
        ("rssm", "bits", 6, 350, {"free_nats": 0.0}, 0.03),
    ],
)
def test_predicts_fifteen_steps(
    name: str, kind: Kind, length: int, updates: int, kwargs: dict[str, Any], tolerated: float
) -> None:
    """From the first observation on, 15 imagined steps are those that the corridor takes."""
    model = make(name, kind, **kwargs)
    batches = [sequences(model, kind, batch=360 // length, length=length, seed=i) for i in range(50)]
    fit(model, batches, updates, rate=0.006)
    model.eval()
    truth = sequences(model, kind, batch=64, length=16, seed=1000)
    assert truth.valid[:, -1].sum() > 10  # many do go 15 steps without falling
    wrong = []
    with th.no_grad():
        state = model.perceive(model.initial_memory(64), row(truth, 0))
        for t in range(15):
            arrived = model.step(state, truth.action[:, t])
            outcome = model.outcome(state, truth.action[:, t], arrived)
            seen = (model.reconstruct(arrived)["vector"] != truth.observation["vector"][:, t + 1]).any(-1)
            paid = (outcome.reward - truth.reward[:, t + 1]).abs() > 0.25
            ended = (outcome.continues < 0.5) != (truth.terminated[:, t + 1] > 0.5)
            wrong.append(seen | paid | ended)
            state = arrived
    valid = truth.valid[:, 1:]
    assert (th.stack(wrong, 1) * valid).sum() <= tolerated * valid.sum()


@pytest.mark.parametrize("name", WORLD_MODELS)
def test_learns_the_action_masks(name: str) -> None:
    model = make(name)
    fit(model, [sequences(model, "bits", batch=32, length=6, seed=i) for i in range(20)], updates=80, rate=0.01)
    truth = sequences(model, "bits", batch=32, length=6, seed=1000)
    with th.no_grad():
        observed = model.observe(truth)
        mask = model.action_mask(State(observed.memory.flatten(0, 1), observed.percept.flatten(0, 1)))
    counted = (truth.valid * (1 - truth.terminated)).flatten() > 0
    assert mask is not None and truth.mask is not None
    right = (mask.float() == truth.mask.flatten(0, 1)).all(-1)
    assert right[counted].float().mean() > 0.97


@pytest.mark.parametrize("name", WORLD_MODELS)
def test_masks_are_never_empty(name: str) -> None:
    """Not even for one component of a MultiDiscrete action, and whatever the model believes."""
    th.manual_seed(0)
    model = make_world_model(name, spec("bits"), ActionSpec(spaces.MultiDiscrete([2, 3])), mask_size=5, **SMALL[name])
    head = model.get_submodule("mask_head")
    last = [module for module in head.modules() if isinstance(module, th.nn.Linear)][-1]
    with th.no_grad():
        last.bias.fill_(-100.0)
    observation = model.observation_spec.encode((th.rand(20, CELLS) < 0.5).float())
    mask = model.action_mask(model.perceive(model.initial_memory(20), observation))
    assert mask is not None
    assert mask[:, :2].any(-1).all()
    assert mask[:, 2:].any(-1).all()
    assert not mask.all()


@pytest.mark.parametrize(("name", "kwargs"), VARIANTS)
def test_advancing_is_a_step_and_its_outcome(name: str, kwargs: dict[str, Any]) -> None:
    model = make(name, **kwargs)
    batch = sequences(model, "bits", batch=4, length=2)
    state, action = model.perceive(batch.memory, row(batch, 0)), batch.action[:, 0]
    th.manual_seed(2)
    following = model.step(state, action)
    outcome = model.outcome(state, action, following)
    th.manual_seed(2)
    for part, expected in zip(model.advance(state, action), (following, outcome), strict=True):
        assert all(th.equal(a, b) for a, b in zip(part, expected, strict=True))


def test_allowed_actions() -> None:
    logits = th.tensor([[1.0, -1.0, -3.0, -2.0, -4.0], [1.0, 2.0, 3.0, -1.0, 0.5]])
    assert allowed_actions(logits, (2, 3)).tolist() == [
        [True, False, False, True, False],
        [True, True, True, False, True],
    ]


def test_masked_mean() -> None:
    assert masked_mean(th.tensor([1.0, 3.0, 100.0]), th.tensor([1.0, 1.0, 0.0])) == 2.0
    assert masked_mean(th.ones(3), th.zeros(3)) == 0.0


@pytest.mark.parametrize(("name", "kwargs"), VARIANTS)
def test_state_dict_holds_everything(name: str, kwargs: dict[str, Any]) -> None:
    model = make(name, **kwargs)
    batch = sequences(model, "bits", batch=4, length=5)
    fit(model, [batch], updates=3, rate=0.01)
    assert all(value.is_floating_point() for value in model.state_dict().values())
    twin = make(name, **kwargs)
    twin.load_state_dict(model.state_dict())
    th.testing.assert_close(observe(model, batch).losses, observe(twin, batch).losses, rtol=0, atol=0)


def test_a_name_or_a_class_makes_a_world_model() -> None:
    for name, kind in WORLD_MODELS.items():
        assert type(make_world_model(name, spec("bits"), ACTION_SPEC)) is kind
        assert type(make_world_model(kind, spec("bits"), ACTION_SPEC)) is kind
    with pytest.raises(ValueError, match=r"'dreamy'.*'recurrent', 'rssm', 'compact'"):
        make_world_model("dreamy", spec("bits"), ACTION_SPEC)
    with pytest.raises(TypeError, match="subclass of WorldModel"):
        make_world_model(ObservationSpec, spec("bits"), ACTION_SPEC)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["recurrent", "compact"])
def test_models_of_vectors_refuse_images_and_unknown_cells(name: str) -> None:
    with pytest.raises(ValueError, match="world_model='rssm'"):
        make(name, "image")
    with pytest.raises(ValueError, match="'gru' or 'lstm', not 'rnn'"):
        make(name, cell="rnn")
