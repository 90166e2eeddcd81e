"""Model errors against sums by hand, on a corridor whose model is known; held-out episodes; the callback."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, CheckpointCallback
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_dream.diagnostics import model_error, open_loop
from sb3_dream.diagnostics_callback import ModelErrorCallback, with_model_error
from sb3_dream.dream import DREAM
from sb3_dream.held_out import newest_episodes, play_episodes
from sb3_dream.policies import DreamPolicy
from sb3_dream.replay import SequenceReplayBuffer, SequenceSamples
from tests.sb3_dream.exact_model import BITS, CELLS, HEIGHT, REWARDS, Corridor, ExactWorldModel, look, policy

PLAIN = {"longest": 1_000}


def episode(actions: list[int], start: int, space: spaces.Space = BITS) -> tuple[list[int], np.ndarray, bool]:
    """The cells that the actions lead through, the actions until the end, and whether that was in the pit."""
    env = Corridor(space, start)
    env.reset()
    cells, ended = [env.cell], False
    for action in actions:
        _, _, ended, _, _ = env.step(np.int64(action))
        cells.append(env.cell)
        if ended:
            break
    return cells, np.array(actions[: len(cells) - 1]), ended


def recorded(walks: list[tuple[list[int], np.ndarray, bool]], space: spaces.Space = BITS) -> SequenceReplayBuffer:
    replay = SequenceReplayBuffer(2_000, space, spaces.Discrete(2), "cpu", memory_size=1)
    for cells, actions, ended in walks:
        observations = np.stack([look(space, cell) for cell in cells])
        replay.add_trajectory(observations, actions[:, None], np.array(REWARDS)[cells[1:]], ended)
    return replay


def walks(count: int = 12, length: int = 30) -> list[tuple[list[int], np.ndarray, bool]]:
    rng = np.random.default_rng(0)
    return [episode(list(rng.integers(2, size=length)), int(rng.integers(1, CELLS))) for _ in range(count)]


def samples(space: spaces.Space = BITS, taken: list[Any] | None = None) -> SequenceSamples:
    found = newest_episodes(recorded(taken or walks(), space), 10_000, **PLAIN)
    assert found is not None
    return found


@pytest.mark.parametrize("space", [BITS, HEIGHT])
def test_a_true_model_has_no_error(space: spaces.Space) -> None:
    errors = model_error(policy(space), samples(space), horizon=4, context=1)
    assert errors == {
        "model_error": 0.0,
        "model_error_4": 0.0,
        "reward_error": 0.0,
        "reward_explained_variance": 1.0,
        "reward_explained_variance_alive": 1.0,
    }


@pytest.mark.parametrize("context", [1, 4])
@pytest.mark.parametrize("horizon", [1, 5])
def test_wrong_bits_by_hand(context: int, horizon: int) -> None:
    """Who believes that nothing moves is wrong about two bits wherever something did."""
    pairs, one_step = [], []
    for cells, _, _ in walks():
        pairs += [cells[t] != cells[t - horizon] for t in range(context - 1 + horizon, len(cells))]
        one_step += [cells[t] != cells[t - 1] for t in range(context, len(cells))]
    errors = model_error(policy(stuck=True), samples(), horizon, context, max_starts=10_000)
    assert errors["model_error"] == pytest.approx(2 * np.mean(one_step))
    assert errors[f"model_error_{horizon}"] == pytest.approx(2 * np.mean(pairs))
    assert errors["model_error"] > 0.5


def test_continuous_errors_are_in_standard_deviations() -> None:
    """Of the values that vary: the constant one has no say."""
    all_cells = np.concatenate([cells for cells, _, _ in walks()])
    moves = np.concatenate([np.abs(np.diff(cells)) for cells, _, _ in walks()])
    errors = model_error(policy(HEIGHT, stuck=True), samples(HEIGHT), horizon=2, context=1)
    assert errors["model_error"] == pytest.approx(moves.mean() / all_cells.std(), rel=1e-4)


def test_choices_count_once() -> None:
    """Of a one-hot two values change where the choice changes."""
    space = spaces.Discrete(CELLS)
    replay = SequenceReplayBuffer(100, space, spaces.Discrete(2), "cpu", memory_size=1)
    replay.add_trajectory(np.array([1, 2, 3, 3]), np.array([[1], [1], [1]]), np.zeros(3), False)
    found = newest_episodes(replay, 100)
    assert found is not None
    assert model_error(policy(space, stuck=True), found, horizon=1, context=1)["model_error"] == pytest.approx(2 / 3)


def test_images_are_measured_as_a_whole() -> None:
    space = spaces.Box(0, 255, (1, 8, 8), np.uint8)
    small = {"memory": 16, "hidden": 8, "width": 8, "groups": 2, "classes": 4, "channels": 2}
    mine = DreamPolicy(space, spaces.Discrete(2), lambda _: 1e-3, world_model="rssm", world_model_kwargs=small)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (6, 1, 8, 8)).astype(np.uint8) * 255
    replay = SequenceReplayBuffer(100, space, spaces.Discrete(2), "cpu", memory_size=16)
    replay.add_trajectory(images, np.zeros((5, 1)), np.zeros(5), False)
    found = newest_episodes(replay, 100)
    assert found is not None
    error = model_error(mine, found, horizon=2, context=1)["model_error"]
    # an untrained decoder says 0.5 everywhere, half a range or one standard deviation from black and white
    assert error == pytest.approx(0.5 / (images / 255).std(), rel=0.1)
    truth, prediction = open_loop(mine, found, context=2, horizon=3)
    np.testing.assert_allclose(truth, images[:5, 0] / 255)
    assert prediction.shape == (5, 8, 8)


def test_rewards_by_hand() -> None:
    arrived = [(REWARDS[cell], cell) for cells, _, _ in walks() for cell in cells[1:]]
    rewards = np.array([reward for reward, _ in arrived])
    errors = model_error(policy(reward=0.5), samples(), context=1)
    assert errors["reward_error"] == pytest.approx(np.abs(rewards / 2).mean(), rel=1e-5)
    assert errors["reward_explained_variance"] == pytest.approx(0.75, rel=1e-5)
    assert errors["reward_explained_variance_alive"] == pytest.approx(0.75, rel=1e-5)
    only_pit = model_error(policy(only_pit=True), samples(), context=1)
    paid = rewards[rewards != 0]
    unexplained = np.where(paid == REWARDS[0], 0.0, paid)
    assert only_pit["reward_explained_variance"] == pytest.approx(1 - unexplained.var() / paid.var(), rel=1e-5)
    assert only_pit["reward_explained_variance"] > 0.5
    assert only_pit["reward_explained_variance_alive"] == pytest.approx(0.0, abs=1e-6)


def test_context_is_not_judged() -> None:
    """The walker moves three times and then stands at the wall."""
    found = samples(taken=[episode([1] * 9, start=CELLS - 4)])
    stuck = policy(stuck=True)
    assert model_error(stuck, found, context=1)["model_error"] == pytest.approx(2 * 3 / 9)
    assert model_error(stuck, found, context=4)["model_error"] == 0.0


def test_nothing_to_measure() -> None:
    found = samples(taken=[episode([1, 1, 1], start=4)])
    errors = model_error(policy(), found, horizon=15, context=1)
    assert errors["model_error"] == 0.0 and math.isnan(errors["model_error_15"])
    assert math.isnan(errors["reward_explained_variance"])  # one reward alone
    many = samples()
    alike = many._replace(rewards=th.where(many.rewards != 0, 1.1, 0.0))  # whose variance is rounded to 1e-14
    assert math.isnan(model_error(policy(), alike, context=1)["reward_explained_variance"])
    assert all(math.isnan(value) for value in model_error(policy(), found, context=4).values())
    for arguments in ({"horizon": 0}, {"context": 0}):
        with pytest.raises(ValueError, match="at least 1 step"):
            model_error(policy(), found, **arguments)


def test_measuring_changes_nothing() -> None:
    th.manual_seed(0)
    mine = DreamPolicy(HEIGHT, spaces.Discrete(2), lambda _: 1e-3, world_model_kwargs={"width": 16, "memory": 8})
    replay = SequenceReplayBuffer(500, HEIGHT, spaces.Discrete(2), "cpu", memory_size=mine.world_model.memory_size)
    for cells, actions, ended in walks():
        rows = np.stack([look(HEIGHT, cell) for cell in cells])
        replay.add_trajectory(rows, actions[:, None], np.array(REWARDS)[cells[1:]], ended)
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    drawn = replay.rng.bit_generator.state
    found = newest_episodes(replay, 500)
    assert found is not None
    th.manual_seed(1)
    expected = th.rand(3)
    th.manual_seed(1)
    first = model_error(mine, found, horizon=3)
    open_loop(mine, found)
    assert th.equal(th.rand(3), expected)
    assert all(th.equal(value, before[name]) for name, value in mine.state_dict().items())
    assert replay.rng.bit_generator.state == drawn
    np.testing.assert_equal(model_error(mine, found, horizon=3), first)
    assert first["model_error_3"] > 0


# ------------------------------------------------------------------- open loop


def test_open_loop_shows_truth_and_dream() -> None:
    taken = [episode([1, 0, 1, 0, 1, 0, 1, 0], start=3), episode([1, 1], start=3)]
    found = samples(taken=taken)
    index = int(found.valid.sum(1).argmax())
    truth, prediction = open_loop(policy(), found, context=3, horizon=4, index=index)
    np.testing.assert_array_equal(truth, np.eye(CELLS)[taken[0][0][:7]])
    np.testing.assert_array_equal(prediction, truth)
    truth, prediction = open_loop(policy(stuck=True), found, context=3, horizon=40, index=index)
    assert len(truth) == len(prediction) == 9
    np.testing.assert_array_equal(prediction[:3], truth[:3])
    assert (prediction[3:] == truth[2]).all()
    with pytest.raises(ValueError, match="longer, got 3, 3"):
        open_loop(policy(), found, context=3, index=1 - index)


# -------------------------------------------------------------------- held out


def test_newest_episodes_come_first_and_padded() -> None:
    taken = [episode([1] * 4, start=2), episode([1] * 6, start=2), episode([1] * 2, start=2)]
    replay = recorded(taken)
    found = newest_episodes(replay, 9)
    assert found is not None
    assert found.valid.sum(1).tolist() == [3, 7]
    assert found.valid.shape == (2, 7) and not found.valid[0, 3:].any()
    np.testing.assert_array_equal(found.observations[1].argmax(-1), taken[1][0])
    assert (found.observations[0, 3:] == 0).all()
    cut = newest_episodes(replay, 100, longest=4)
    assert cut is not None and cut.valid.shape == (3, 4)
    np.testing.assert_array_equal(cut.observations[1].argmax(-1), taken[1][0][-4:])
    assert newest_episodes(SequenceReplayBuffer(10, BITS, spaces.Discrete(2), "cpu"), 9) is None


@pytest.mark.parametrize("masks", [False, True])
def test_played_episodes_are_what_happened(masks: bool) -> None:
    """A true model finds no error in them, endings, cuts and masks included."""
    env = DummyVecEnv([lambda: Corridor(start=1, masks=masks) for _ in range(3)])
    mine = policy(mask_size=2 if masks else None)
    played = play_episodes(mine, env, rows=300)
    errors = model_error(mine, played, horizon=6, context=1)
    assert errors["model_error"] == errors["model_error_6"] == errors["reward_error"] == 0.0
    assert 300 <= int(played.valid.sum()) <= 450
    assert played.is_first[:, 0].all() and (played.memory == 0).all()
    ends = played.valid.sum(1) - 1
    rows = th.arange(len(ends))
    assert played.is_last[rows, ends].all()
    in_pit = played.observations[rows, ends].argmax(-1) == 0
    assert in_pit.any() and th.equal(played.terminated[rows, ends], in_pit)
    assert int((~in_pit).sum()) <= 3
    if masks:
        assert played.masks is not None
        at_wall = played.valid & (played.observations.argmax(-1) == CELLS - 1) & ~played.is_last
        assert at_wall.any() and not played.masks[at_wall][:, 0].any()
        assert (played.actions[at_wall] == 1).all()


class Everything(gym.Env[Any, Any]):
    """Dict observations that tell the step, continuous actions, time limits."""

    observation_space = spaces.Dict({"step": spaces.Discrete(20), "half": spaces.Box(0.0, 10.0, (1,))})
    action_space = spaces.Box(-3.0, 1.0, (2,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.step_number = 0
        return self.look(), {}

    def look(self) -> dict[str, Any]:
        return {"step": self.step_number, "half": np.array([self.step_number / 2], np.float32)}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.step_number += 1
        return self.look(), 0.0, False, self.step_number == 5, {}


def test_plays_in_any_space() -> None:
    small = {"memory": 16, "hidden": 8, "width": 8, "groups": 2, "classes": 4}
    mine = DreamPolicy(
        Everything.observation_space,
        Everything.action_space,
        lambda _: 1e-3,
        world_model="rssm",
        world_model_kwargs=small,
    )
    played = play_episodes(mine, DummyVecEnv([Everything, Everything]), rows=20)
    assert isinstance(played.observations, dict)
    assert played.valid.shape == (4, 6) and not played.terminated.any()
    assert played.observations["step"].squeeze(-1).tolist() == [list(range(6))] * 4
    np.testing.assert_allclose(played.observations["half"], played.observations["step"] / 2)
    assert math.isfinite(model_error(mine, played, horizon=3, context=2)["model_error_3"])


# -------------------------------------------------------------------- callback


def small(env: Any, **kwargs: Any) -> DREAM:
    sizes = {"learning_starts": 20, "batch_size": 2, "sequence_length": 4, "imagination_starts": 2, "train_ratio": 1}
    sizes |= {"model_warmup": 0, "policy_delay": 1, "n_epochs": 1, "n_minibatches": 1}
    networks = {"world_model_kwargs": {"width": 8, "depth": 1, "memory": 4}, "actor_critic_kwargs": {"net_arch": (8,)}}
    return DREAM(env, buffer_size=500, seed=0, **{"policy_kwargs": networks, **sizes, **kwargs})


def exact(env: Any, **kwargs: Any) -> DREAM:
    networks = {"world_model": ExactWorldModel, "actor_critic_kwargs": {"net_arch": (8,)}}
    return small(env, policy_kwargs=networks, **kwargs)


def watch(model: DREAM, callback: ModelErrorCallback, steps: int) -> list[tuple[int, dict[str, Any]]]:
    """What was logged, by the step at which it was."""
    logged: list[tuple[int, dict[str, Any]]] = []

    class Spy(Logger):
        def record(self, key: str, value: Any, exclude: Any = None) -> None:
            if "model_error" in key or "open_loop" in key or "explained" in key:
                if not logged or logged[-1][0] != model.num_timesteps:
                    logged.append((model.num_timesteps, {}))
                logged[-1][1][key] = value
            super().record(key, value, exclude)

    model.set_logger(Spy(None, []))
    model.learn(steps, callback)
    return logged


@pytest.mark.parametrize("held_out", [False, True])
def test_callback_measures_as_often_as_asked(held_out: bool) -> None:
    callback = ModelErrorCallback(50, Corridor(start=1) if held_out else None, rows=100, horizon=2, context=1)
    logged = watch(exact(Corridor(start=1)), callback, 170)
    assert [step for step, _ in logged] == [50, 100, 150]
    for _, values in logged:
        assert values["train/model_error"] == values["train/model_error_2"] == 0.0
        assert "train/open_loop" not in values


def test_callback_waits_for_updates_and_episodes() -> None:
    assert watch(exact(Corridor(start=1), learning_starts=60), ModelErrorCallback(25, context=1), 110)[0][0] > 60
    endless = gym.wrappers.TransformAction(Corridor(start=5), lambda _: np.int64(1), Corridor.action_space)
    assert watch(exact(endless), ModelErrorCallback(25, context=1), 60) == []


def test_callback_leaves_training_alone() -> None:
    """Bit for bit the same parameters, with measurements on training's own episodes, on others, and without."""
    learned = []
    for callback in (None, ModelErrorCallback(20, context=1), ModelErrorCallback(20, Corridor(start=1), context=1)):
        model = small(Corridor(start=1))
        model.learn(90, callback)
        learned.append(th.nn.utils.parameters_to_vector(model.policy.parameters()))
    assert th.equal(learned[1], learned[0]) and th.equal(learned[2], learned[0])


def test_callback_draws_in_tensorboard(tmp_path: Path) -> None:
    model = small(Corridor(start=2))
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(100, ModelErrorCallback(50, context=1, horizon=3), log_interval=1)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert "train/model_error" in events.Tags()["scalars"]
    assert "train/open_loop" in events.Tags()["images"]
    assert events.Images("train/open_loop")[0].width > 300


def test_callback_follows_normalised_training() -> None:
    callback = ModelErrorCallback(50, VecNormalize(DummyVecEnv([lambda: Corridor(HEIGHT, start=1)])), context=1)
    logged = watch(small(VecNormalize(DummyVecEnv([lambda: Corridor(HEIGHT, start=1)]))), callback, 60)
    assert math.isfinite(logged[0][1]["train/model_error"])
    assert watch(
        small(VecNormalize(DummyVecEnv([lambda: Corridor(HEIGHT, start=1)]))), ModelErrorCallback(50, context=1), 60
    )
    with pytest.raises(ValueError, match="wrap eval_env in VecNormalize"):
        model = small(VecNormalize(DummyVecEnv([lambda: Corridor(HEIGHT, start=1)])))
        model.learn(60, ModelErrorCallback(50, Corridor(HEIGHT)))
    with pytest.raises(ValueError, match="eval_freq must be at least 1, got 0"):
        ModelErrorCallback(0)


def test_added_to_whatever_learn_was_given() -> None:
    calls = []

    def listen(local: dict[str, Any], _: dict[str, Any]) -> bool:
        calls.append(local["self"].num_timesteps)
        return len(calls) < 4

    mine, other = ModelErrorCallback(50), CheckpointCallback(10_000, "unused")

    def measuring(given: Any) -> list[BaseCallback]:
        added = with_model_error(given)
        each = added if isinstance(added, list) else getattr(added, "callbacks", [added])
        return [callback for callback in each if isinstance(callback, ModelErrorCallback)]

    for given in (None, [], [other], other, CallbackList([other])):
        assert len(measuring(given)) == 1 and measuring(given) != [mine]
    for given in (mine, [other, mine], CallbackList([other, mine])):
        assert measuring(given) == [mine]
    assert with_model_error([other, CallbackList([mine])])[1].callbacks == [mine]  # type: ignore[index, union-attr]
    model = exact(Corridor(start=1))
    model.learn(50, with_model_error(listen))
    assert calls == [1, 2, 3, 4] and model.num_timesteps == 4
