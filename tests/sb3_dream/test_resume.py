"""A run that was stopped, saved and resumed is the run that was never stopped, bit for bit."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecEnvWrapper, VecNormalize

from sb3_dream.dream import DREAM
from sb3_dream.env_snapshots import restore_snapshot, take_snapshot
from sb3_dream.random_streams import RandomStream
from tests.sb3_dream.resume_cases import CASES, FIRST, SECOND, FloatWalk, finish
from tests.sb3_dream.tiny import SavedWalk, Walk, assert_same, parameters, tiny, vectorized

pytestmark = pytest.mark.filterwarnings("ignore:.*does not exist. Will create it")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which another process has resumed all runs from their files."""
    root = tmp_path_factory.mktemp("runs")
    for name, case in CASES.items():
        model = case.start().learn(FIRST)
        model.save(root / name / "model")
        model.save_replay_buffer(root / name / "replay")
    subprocess.run([sys.executable, "-m", "tests.sb3_dream.resume_cases", str(root)], check=True)
    return root


@pytest.mark.parametrize("name", CASES)
def test_resumes_exactly_in_another_process(name: str, resumed: Path) -> None:
    case = CASES[name]
    left = th.load(resumed / name / "left.pt")
    never_saved = case.start().learn(FIRST).learn(SECOND, reset_num_timesteps=False)
    assert never_saved._n_updates > 0
    assert len(left["returns"]) > 0
    expected = finish(never_saved)
    assert_same(left, expected)
    if case.one_run:
        assert_same(expected, finish(case.start().learn(FIRST + SECOND)))


def test_saving_changes_nothing(tmp_path: Path) -> None:
    case = CASES["walk"]

    class Saves(BaseCallback):
        def _on_step(self) -> bool:
            self.model.save(tmp_path / "model")
            return True

    assert_same(finish(case.start().learn(FIRST, callback=Saves())), finish(case.start().learn(FIRST)))


def saved(path: Path, model: DREAM) -> Path:
    model.save(path / "model")
    model.save_replay_buffer(path / "replay")
    return path


def load(path: Path, env: DummyVecEnv) -> DREAM:
    model = DREAM.load(path / "model", env, device="cpu")
    model.load_replay_buffer(path / "replay")
    return model


def walks(count: int = 2) -> DummyVecEnv:
    return vectorized(lambda: SavedWalk(slip=0.3), count)  # type: ignore[return-value]


def test_loading_does_not_touch_the_streams_of_the_process(tmp_path: Path) -> None:
    saved(tmp_path, tiny(walks(), seed=None).learn(FIRST))
    random.seed(5), np.random.seed(5), th.manual_seed(5)
    model = load(tmp_path, walks())
    model.predict(np.zeros(5, np.int8), deterministic=True)
    drawn = random.random(), np.random.rand(), th.rand(1).item()
    random.seed(5), np.random.seed(5), th.manual_seed(5)
    DREAM.load(tmp_path / "model", walks(), device="cpu")  # the networks are initialised anew before they are loaded
    assert (random.random(), np.random.rand(), th.rand(1).item()) == drawn
    random.seed(5)
    assert random.random() == drawn[0]
    model.learn(2, reset_num_timesteps=False)
    assert random.random() != drawn[0]


def test_resumes_from_a_file_saved_before_resuming(tmp_path: Path) -> None:
    """Loading and saving again, without learning, loses nothing."""
    case = CASES["walk"]
    model = case.start().learn(FIRST)
    again = load(saved(tmp_path / "1", model), case.make())  # type: ignore[arg-type]
    again = load(saved(tmp_path / "2", again), case.make())  # type: ignore[arg-type]
    assert_same(
        finish(again.learn(SECOND, reset_num_timesteps=False)), finish(model.learn(SECOND, reset_num_timesteps=False))
    )


def test_a_new_run_of_a_loaded_model_begins_anew(tmp_path: Path) -> None:
    model = load(saved(tmp_path, tiny(walks()).learn(FIRST)), walks())
    model.learn(10)
    assert model.num_timesteps == 10


class Plain(VecEnvWrapper):
    """A wrapper that may remember anything."""

    def reset(self) -> np.ndarray:
        return self.venv.reset()

    def step_wait(self) -> tuple:
        return self.venv.step_wait()


@pytest.mark.parametrize("kind", ["environment", "wrapper", "number"])
def test_what_cannot_be_snapshotted_is_reset_and_its_episodes_are_cut(kind: str, tmp_path: Path) -> None:
    def make(count: int = 2) -> DummyVecEnv:
        if kind == "environment":
            return vectorized(lambda: Walk(cells=50, start=25), count)  # type: ignore[return-value]
        env = vectorized(lambda: SavedWalk(cells=50, start=25), count)
        return Plain(env) if kind == "wrapper" else env  # type: ignore[return-value]

    saved(tmp_path, tiny(make()).learn(12))
    model = load(tmp_path, make(3 if kind == "number" else 2))
    model.learn(12, reset_num_timesteps=False)
    assert model.num_timesteps == 24
    rows = model.replay_buffer.sample_sequences(100, 12)
    cells = rows.observations.argmax(-1)  # type: ignore[union-attr]
    assert (cells.diff(dim=1).abs()[rows.valid[:, 1:]] == 1).all()  # nobody jumps
    assert rows.is_first.any(1).sum() > 20
    assert model.replay_buffer.n_envs == (3 if kind == "number" else 2)


def test_normalisation_is_in_the_file(tmp_path: Path) -> None:
    def make() -> VecNormalize:
        return VecNormalize(Plain(vectorized(FloatWalk, 2)))  # type: ignore[arg-type]

    model = tiny(make()).learn(FIRST)
    saved(tmp_path, model)
    before = model.get_vec_normalize_env()
    again = DREAM.load(tmp_path / "model", make(), device="cpu")
    assert again.get_vec_normalize_env().obs_rms.count < 1  # type: ignore[union-attr]
    again.learn(2, reset_num_timesteps=False)
    after = again.get_vec_normalize_env()
    assert before is not None and after is not None
    assert after.obs_rms.count == before.obs_rms.count + 2  # type: ignore[union-attr]


def test_saved_in_the_middle_of_a_step(tmp_path: Path) -> None:
    """By a callback that runs before the step is stored: the run goes on, in environments that have been reset."""

    class SaveAt(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 20:
                saved(tmp_path, self.model)  # type: ignore[arg-type]
            return True

    tiny(vectorized(lambda: SavedWalk(cells=50, start=25), 2)).learn(24, callback=SaveAt())
    model = load(tmp_path, vectorized(lambda: SavedWalk(cells=50, start=25), 2))  # type: ignore[arg-type]
    model.learn(10, reset_num_timesteps=False)
    assert model.num_timesteps == 30
    rows = model.replay_buffer.sample_sequences(100, 12)
    cells = rows.observations.argmax(-1)  # type: ignore[union-attr]
    assert (cells.diff(dim=1).abs()[rows.valid[:, 1:]] == 1).all()


def test_saving_never_fails_for_want_of_a_snapshot(tmp_path: Path) -> None:
    class Torn(SavedWalk):
        def get_state(self) -> tuple:
            raise RuntimeError("torn")

    model = tiny(vectorized(Torn, 1)).learn(10)
    with pytest.warns(UserWarning, match="a resumed run resets them.*torn"):
        model.save(tmp_path / "model")
    assert_same(parameters(model), parameters(DREAM.load(tmp_path / "model", device="cpu")))


# The parts


def test_snapshots() -> None:
    env, other = walks(), walks()
    env.seed(0)
    env.reset()
    other.reset()
    for _ in range(3):
        env.step(np.array([1, 0]))
    snapshot = take_snapshot(env)
    assert snapshot is not None
    expected = [env.step(np.array([1, 1])) for _ in range(12)]
    assert restore_snapshot(other, snapshot)
    for observation, reward, done, infos in expected:
        again = other.step(np.array([1, 1]))
        assert np.array_equal(again[0], observation) and np.array_equal(again[1], reward)
        assert np.array_equal(again[2], done)
        episodes = [[{k: i["episode"][k] for k in "rl"} for i in x if "episode" in i] for x in (infos, again[3])]
        assert episodes[0] == episodes[1]
    assert not restore_snapshot(walks(3), snapshot)
    assert not restore_snapshot(VecCheckNan(walks()), snapshot)
    assert not restore_snapshot(vectorized(Walk, 2), snapshot)
    assert take_snapshot(vectorized(Walk, 2)) is None
    assert take_snapshot(Plain(walks())) is None


def test_a_stream_of_its_own() -> None:
    device = th.device("cpu")
    stream, twin = RandomStream(device, 3), RandomStream(device, 3)
    th.manual_seed(0)
    outside = [th.rand(3), th.rand(3)]
    th.manual_seed(0)
    drawn = [th.rand(3)]
    with stream.use():
        inside = th.rand(2)
    state = stream.get_state()
    drawn.append(th.rand(3))
    assert th.equal(th.stack(outside), th.stack(drawn))  # the global stream did not notice
    with twin.use():
        assert th.equal(th.rand(2), inside)
        first = th.rand(2)
    assert not th.equal(first, inside)
    with pytest.raises(ZeroDivisionError), stream.use():
        raise ZeroDivisionError
    stream.set_state(state)
    with stream.use():
        assert th.equal(th.rand(2), first)
    with RandomStream(device, 4).use():
        assert not th.equal(th.rand(2), inside)


# Replay buffers of others


def test_a_replay_buffer_is_dealt_to_another_number_of_environments(tmp_path: Path) -> None:
    model = tiny(walks(2)).learn(40)
    saved(tmp_path, model)
    other = tiny(walks(3))
    other.load_replay_buffer(tmp_path / "replay")
    assert other.replay_buffer.n_envs == 3
    assert other.replay_buffer.n_rows == model.replay_buffer.n_rows
    other.learn(15)


def test_replay_buffers_of_other_models_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, tiny(walks()).learn(10))
    kwargs = {"world_model_kwargs": {"width": 8, "depth": 1, "memory": 5}}
    with pytest.raises(ValueError, match="of another model: its memory_size is"):
        tiny(walks(), policy_kwargs=kwargs).load_replay_buffer(tmp_path / "replay")
    with pytest.raises(ValueError, match="its observation_space is"):
        tiny(Monitor(Walk(cells=6))).load_replay_buffer(tmp_path / "replay")
