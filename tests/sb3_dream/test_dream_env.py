"""The learned model as an environment: what it imagines, where it starts, and that it is an environment like others."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_dream.dream import DREAM
from sb3_dream.dream_env import DreamEnv
from sb3_dream.observations import to_frames, to_raw
from sb3_dream.policies import DreamPolicy
from sb3_dream.replay import SequenceReplayBuffer
from sb3_dream.spaces import ObservationSpec
from tests.sb3_dream.exact_model import BITS, CELLS, HEIGHT, Corridor, look, policy

STARTS = np.stack([look(BITS, cell) for cell in range(1, CELLS)])
SMALL_RSSM = {"memory": 16, "hidden": 8, "width": 8, "groups": 2, "classes": 4, "channels": 2}


def fresh(space: spaces.Space, actions: spaces.Space, **kwargs: Any) -> DreamPolicy:
    """An untrained policy."""
    th.manual_seed(0)
    image = isinstance(space, spaces.Dict) or len(space.shape or ()) == 3
    model = {"width": 16, "depth": 1, "memory": 8} if not image else SMALL_RSSM
    return DreamPolicy(
        space,
        actions,
        lambda _: 1e-3,
        world_model="rssm" if image else "recurrent",
        world_model_kwargs=model,
        actor_critic_kwargs={"net_arch": (16,)},
        **kwargs,
    )


@pytest.mark.parametrize("space", [BITS, HEIGHT])
def test_dreams_the_truth_with_a_true_model(space: spaces.Space) -> None:
    """Step by step the same as the environment, to the end of the episode."""
    real = Corridor(space, start=5)
    dream = DreamEnv(policy(space), start_observations=look(space, 5)[None])
    truth, dreamt = real.reset()[0], dream.reset(seed=1)[0]
    for action in [1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]:
        np.testing.assert_array_equal(dreamt, truth)
        assert dreamt.dtype == space.dtype
        truth, *consequences = real.step(np.int64(action))
        dreamt, *dreamt_consequences = dream.step(np.int64(action))
        assert dreamt_consequences[:3] == consequences[:3]
    assert consequences[1]


def test_ends_as_often_as_the_model_believes() -> None:
    dream = DreamEnv(policy(ending=0.25), start_observations=STARTS[:1])
    dream.reset(seed=0)
    ended = [dream.step(np.int64(1))[2] for _ in range(2000)]
    assert np.mean(ended) == pytest.approx(0.25, abs=0.04)
    assert dream.step(np.int64(1))[4] == {"continues": 0.75}


def test_horizon_truncates() -> None:
    dream = DreamEnv(policy(), start_observations=STARTS[3:4], horizon=3)
    for _ in range(2):
        dream.reset()
        assert [dream.step(np.int64(1))[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_starts_everywhere_it_may() -> None:
    dream = DreamEnv(policy(), start_observations=STARTS)
    dream.reset(seed=0)
    cells = {int(dream.reset()[0].argmax()) for _ in range(60)}
    assert cells == set(range(1, CELLS))


def test_starts_from_the_replay_with_its_memory() -> None:
    """Not from a last observation, which nothing follows; the memory counts the steps before."""
    replay = SequenceReplayBuffer(100, BITS, spaces.Discrete(2), "cpu", memory_size=1)
    with pytest.raises(ValueError, match="needs a start"):
        DreamEnv(policy(), replay=replay)
    for t in range(3):  # 3, 2, 1, 0
        replay.add(
            STARTS[2 - t][None], look(BITS, 2 - t)[None], np.zeros((1, 1)), np.zeros(1), np.array([t == 2]), [{}],
            memory=np.full((1, 1), float(t)), last_memory=np.full((1, 1), 3.0),
        )  # fmt: skip
    dream = DreamEnv(policy(), replay=replay)
    dream.reset(seed=0)
    seen = {(int(dream.reset()[0].argmax()), float(dream.get_state().state.memory)) for _ in range(40)}
    assert seen == {(3, 0.0), (2, 1.0), (1, 2.0)}
    unfinished = SequenceReplayBuffer(100, BITS, spaces.Discrete(2), "cpu", memory_size=1)
    unfinished.add(STARTS[:1], STARTS[1:2], np.zeros((1, 1)), np.zeros(1), np.array([False]), [{}])
    with pytest.raises(ValueError, match="no whole episode"):
        DreamEnv(policy(), replay=unfinished).reset()


def test_masks_are_the_models_belief() -> None:
    dream = DreamEnv(policy(mask_size=2), start_observations=STARTS[-2:-1])
    dream.reset()
    assert dream.action_masks().tolist() == [True, True]
    dream.step(np.int64(1))
    assert dream.action_masks().tolist() == [False, True]
    assert not hasattr(DreamEnv(policy(), start_observations=STARTS), "action_masks")


OBSERVED: dict[str, tuple[spaces.Space, spaces.Space, dict[str, Any]]] = {
    "bits": (BITS, spaces.Discrete(2, start=3), {}),
    "vector": (spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Box(-2.0, 5.0, (2,), np.float32), {}),
    "unbounded": (spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.MultiDiscrete([2, 3]), {}),
    "integers": (spaces.Box(-2, 7, (2, 2), np.int64), spaces.MultiBinary(2), {}),
    "discrete": (spaces.Discrete(5, start=-1), spaces.Discrete(3), {}),
    "choices": (spaces.MultiDiscrete([2, 3]), spaces.Discrete(3), {}),
    "binary floats": (
        spaces.Box(0.0, 1.0, (4,), np.float32),
        spaces.Discrete(3),
        {"observation_layout": {"binary": True}},
    ),
}


@pytest.mark.parametrize("kind", OBSERVED)
def test_is_an_environment_like_others(kind: str) -> None:
    """Gymnasium's own checks, seeding included, and Stable-Baselines3's."""
    space, actions, kwargs = OBSERVED[kind]
    space.seed(0)
    starts = np.stack([np.rint(space.sample()) if kwargs else space.sample() for _ in range(3)]).astype(space.dtype)
    dream = DreamEnv(fresh(space, actions, **kwargs), start_observations=starts)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(spec|infinity|symmetric|not commonly|shape|non-zero start).*")
        check_env(dream)
        check_env_sb3(dream)


def test_same_seed_same_dream() -> None:
    """Whatever else draws random numbers in between, and without changing what others draw."""
    dream = DreamEnv(fresh(BITS, spaces.Discrete(2)), start_observations=STARTS)

    def dreamt(seed: int, disturb: bool = False) -> np.ndarray:
        rows = [dream.reset(seed=seed)[0]]
        for _ in range(8):
            rows.append(dream.step(np.int64(1))[0])
            if disturb:
                th.rand(3)
        return np.stack(rows)

    th.manual_seed(0)
    expected = th.rand(2)
    th.manual_seed(0)
    first = dreamt(5)
    assert th.equal(th.rand(2), expected)
    np.testing.assert_array_equal(dreamt(5, disturb=True), first)
    assert any(not np.array_equal(dreamt(seed), first) for seed in (6, 7))


def test_plans_from_a_saved_state() -> None:
    dream = DreamEnv(fresh(BITS, spaces.Discrete(2)), start_observations=STARTS)
    dream.reset(seed=2)
    dream.step(np.int64(0))
    state = dream.get_state()

    def future() -> list[Any]:
        dream.set_state(state)
        return [dream.step(np.int64(action)) for action in (0, 1, 1, 0)]

    first, second = future(), future()
    for (row, *rest), (other, *others) in zip(first, second, strict=True):
        np.testing.assert_array_equal(row, other)
        assert rest == others


def test_dreams_of_a_trained_model_and_of_its_file(tmp_path: Path) -> None:
    small = {"world_model_kwargs": {"width": 16, "depth": 1, "memory": 8}, "actor_critic_kwargs": {"net_arch": (16,)}}
    sizes = {"learning_starts": 60, "batch_size": 2, "sequence_length": 4, "imagination_starts": 2, "model_warmup": 0}
    model = DREAM(Corridor(start=1), buffer_size=200, seed=0, policy_kwargs=small, **sizes)
    model.learn(61)
    random_numbers = model.replay_buffer.rng.bit_generator.state
    dream = DreamEnv(model, horizon=5)
    assert BITS.contains(dream.reset(seed=3)[0])
    assert model.replay_buffer.rng.bit_generator.state == random_numbers
    model.save(tmp_path / "model")
    same = DreamEnv(tmp_path / "model", replay=model.replay_buffer, horizon=5)
    same.reset(seed=3)
    for _ in range(5):
        (row, *rest), (other, *others) = dream.step(np.int64(0)), same.step(np.int64(0))
        np.testing.assert_array_equal(row, other)
        assert rest == others
    with pytest.raises(ValueError, match="needs a start"):
        DreamEnv(tmp_path / "model")


# -------------------------------------------------- pictures, spaces, mistakes


def test_encoded_observations_come_back() -> None:
    image = spaces.Box(0, 255, (3, 8, 9), np.uint8)
    everything = [*(space for space, _, _ in OBSERVED.values()), image, HEIGHT, spaces.MultiDiscrete([2, 3, 4, 2])]
    everything.append(spaces.Dict({"image": image, "place": spaces.Discrete(4), "speed": spaces.Box(-1.0, 1.0, (2,))}))
    for space in everything:
        space.seed(1)
        batch = gym.vector.utils.create_empty_array(space, 5)
        gym.vector.utils.concatenate(space, [space.sample() for _ in range(5)], batch)
        tensors = {k: th.as_tensor(v) for k, v in batch.items()} if isinstance(batch, dict) else th.as_tensor(batch)
        spec = ObservationSpec(space)
        raw = to_raw(spec, spec.encode(tensors))
        pairs = [(raw[k], batch[k]) for k in batch] if isinstance(batch, dict) else [(raw, batch)]
        for back, before in pairs:
            np.testing.assert_array_equal(back, before)
            assert back.dtype == before.dtype


def test_frames_are_pictures_where_there_is_one() -> None:
    grid = {"binary": True, "grids": [{"start": 1, "rows": 2, "columns": 3}]}
    spec = ObservationSpec(spaces.Box(0.0, 1.0, (8,), np.float32), grid)
    bits = th.tensor([[0, 1, 0, 1, 0, 0, 1, 0.0]])
    np.testing.assert_array_equal(to_frames(spec, spec.encode(bits)), [[[1, 0, 1], [0, 0, 1]]])
    plain = ObservationSpec(spaces.Box(0.0, 1.0, (8,), np.float32))
    np.testing.assert_array_equal(to_frames(plain, plain.encode(bits)), bits)
    for channels, shape in ((3, (1, 8, 9, 3)), (1, (1, 8, 9)), (4, (1, 8, 9))):
        image = ObservationSpec(spaces.Box(0, 255, (channels, 8, 9), np.uint8))
        frames = to_frames(image, image.encode(th.full((1, channels, 8, 9), 51, dtype=th.uint8)))
        assert frames.shape == shape and np.allclose(frames, 0.2)


SIX = spaces.Box(0.0, 1.0, (6,), np.float32)
TWO_BY_THREE = {"observation_layout": {"grids": [{"start": 0, "rows": 2, "columns": 3}]}}


@pytest.mark.parametrize(
    ("space", "kwargs", "shape"),
    [
        (spaces.Box(0, 255, (3, 16, 16), np.uint8), {}, (320, 320, 3)),
        (SIX, TWO_BY_THREE, (212, 318, 3)),
        (SIX, {}, (53, 318, 3)),
    ],
)
def test_renders(space: spaces.Space, kwargs: dict[str, Any], shape: tuple[int, ...]) -> None:
    start = np.zeros((1, *(space.shape or ())), space.dtype)
    start[0].flat[0] = space.high.max()  # type: ignore[attr-defined]
    dream = DreamEnv(fresh(space, spaces.Discrete(2), **kwargs), start_observations=start, render_mode="rgb_array")
    dream.reset(seed=0)
    picture = dream.render()
    assert picture is not None and picture.shape == shape and picture.dtype == np.uint8
    if len(space.shape or ()) == 1:
        assert (picture[:50, :50] == 255).all() and (picture[-50:, -50:] == 0).all()


def test_dict_observations() -> None:
    space = spaces.Dict({"image": spaces.Box(0, 255, (3, 8, 8), np.uint8), "place": spaces.Discrete(4)})
    starts = {"image": np.zeros((2, 3, 8, 8), np.uint8), "place": np.array([1, 1])}
    dream = DreamEnv(fresh(space, spaces.Discrete(2)), start_observations=starts)
    observation, _ = dream.reset(seed=0)
    assert observation["place"] == 1 and space.contains(observation)
    assert space.contains(dream.step(np.int64(0))[0])


def test_mistakes(tmp_path: Path) -> None:
    mine = policy()
    with pytest.raises(ValueError, match="needs a start"):
        DreamEnv(mine)
    with pytest.raises(ValueError, match="start observation 1 is not of MultiBinary"):
        DreamEnv(mine, start_observations=np.array([[0] * 8, [2] * 8], np.int8))
    with pytest.raises(ValueError, match="at least one"):
        DreamEnv(mine, start_observations=STARTS[:0])
    with pytest.raises(ValueError, match="must be an array"):
        DreamEnv(mine, start_observations={"cell": STARTS})
    with pytest.raises(ValueError, match="horizon"):
        DreamEnv(mine, start_observations=STARTS, horizon=0)
    with pytest.raises(ValueError, match="'rgb_array', not 'human'"):
        DreamEnv(mine, start_observations=STARTS, render_mode="human")
    with pytest.raises(TypeError, match="expected a DREAM"):
        DreamEnv(Corridor(), start_observations=STARTS)
    with pytest.raises(FileNotFoundError):
        DreamEnv(tmp_path / "nothing.zip", start_observations=STARTS)
    normalized = VecNormalize(DummyVecEnv([lambda: Corridor(HEIGHT)]))
    with pytest.raises(ValueError, match="normalised by VecNormalize"):
        DreamEnv(DREAM(normalized, buffer_size=10), start_observations=np.ones((1, 2), np.float32))
    dream = DreamEnv(mine, start_observations=STARTS)
    with pytest.raises(ResetNeeded):
        dream.step(np.int64(0))
    dream.reset()
    with pytest.raises(ValueError, match="2 is no action of Discrete"):
        dream.step(np.int64(2))
