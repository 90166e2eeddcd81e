"""Model files: plain, complete or not there, and harmless whoever wrote them."""

from __future__ import annotations

import base64
import errno
import io
import json
import pickle
import random
import zipfile
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from rl_zoo3.utils import linear_schedule
from stable_baselines3 import PPO
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

import sb3_dream
from sb3_dream.actor_critic import ActorCritic
from sb3_dream.agent import DREAMAgent
from sb3_dream.dream import DREAM
from sb3_dream.plain_values import NotPlain, decode, encode
from sb3_dream.policies import MlpPolicy
from sb3_dream.stored_settings import TRUST_VARIABLE
from sb3_dream.world_models import CompactWorldModel, RecurrentWorldModel
from tests.sb3_dream.kept_files import KEPT, LOOKS
from tests.sb3_dream.resume_cases import CASES, FloatWalk
from tests.sb3_dream.tiny import NETWORKS, MaskedWalk, Walk, assert_same, parameters, tiny, vectorized

# Plain values


class Place(NamedTuple):
    name: str
    where: np.ndarray


def back(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value))))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda part: (
        st.lists(part)
        | st.lists(part).map(tuple)
        | st.dictionaries(st.text(), part)
        | st.dictionaries(st.integers(), part)
        | st.lists(part, max_size=3).map(lambda parts: deque(parts, maxlen=3))
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(plain)
def test_plain_values_come_back(value: Any) -> None:
    again = back(value)
    assert again == value and type(again) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 0, 3), np.float16),
        np.array(3.5, np.float32),
        np.array([[True], [False]]),
        np.array([np.nan, -np.inf, -0.0]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["text"]),
    ],
)
def test_arrays_come_back(array: np.ndarray) -> None:
    again = back(array)
    assert again.dtype == array.dtype and again.shape == array.shape
    assert again.tobytes("A") == array.tobytes("A")


SPACES = [
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Box(np.array([-1.0, 0.0]), np.array([2.0, np.inf]), dtype=np.float64),
    spaces.Box(0, 255, (3, 8, 8), np.uint8),
    spaces.Box(-5, 5, (), np.int16),
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, 3]]),
    spaces.MultiBinary(5),
    spaces.MultiBinary([2, 3]),
    spaces.Dict(OrderedDict(b=spaces.Discrete(2), a=spaces.Dict(c=spaces.Box(0, 1, (2,))))),
]


@pytest.mark.parametrize("space", SPACES)
def test_spaces_come_back(space: spaces.Space) -> None:
    space.seed(3)
    again = back(space)
    assert again == space and repr(again) == repr(space)
    if isinstance(space, spaces.Dict):
        assert list(again) == list(space)
    assert repr(again.sample()) == repr(space.sample()), "with its random generator"


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_random_generators_come_back(kind: str) -> None:
    generator = np.random.Generator(getattr(np.random, kind)(7))
    generator.integers(3, dtype=np.int32)  # half a number is left over
    again = back(generator)
    assert (
        again.integers(2**31, size=9, dtype=np.int32).tolist()
        == generator.integers(2**31, size=9, dtype=np.int32).tolist()
    )


def test_other_values_come_back() -> None:
    values = (np.float32(0.1), np.int64(2), np.bool_(True), np.dtype("<f2"), np.float16, float("inf"), frozenset({1}))
    again = back(values)
    assert again == values and [type(each) for each in again] == [type(each) for each in values]
    assert np.isnan(back(float("nan")))
    assert back(random.getstate()) == random.getstate()
    place = back(Place("here", np.arange(3)))
    assert type(place) is Place and place.where.tolist() == [0, 1, 2]
    rate = back(linear_schedule(3e-4))
    assert type(rate).__name__ == "SimpleLinearSchedule" and rate(0.3) == linear_schedule(3e-4)(0.3)
    ordered = back(OrderedDict(b=1, a=2))
    assert type(ordered) is OrderedDict and list(ordered) == ["b", "a"]
    assert back({":tuple:": 1}) == {":tuple:": 1}
    assert back([CompactWorldModel, th.optim.AdamW]) == [CompactWorldModel, th.optim.AdamW]


@pytest.mark.parametrize("value", [len, lambda: 0, Walk, object(), np.array([object()]), th.zeros(1), Path, 1j])
def test_what_is_not_plain_is_named(value: Any) -> None:
    with pytest.raises(NotPlain, match=r"^a\[1\].b: "):
        encode({"a": [0, {"b": value}]})


@pytest.mark.parametrize(
    "item",
    [
        {":class:": "subprocess.Popen"},
        {":class:": "torch.optim.Optimizer.__init__"},
        {":class:": "torch.optim.lr_scheduler"},
        {":object:": ["Path", {}]},
        {":record:": ["os", "system", ["true"]]},
        {":record:": ["pathlib", "Path", ["x"]]},
        {":record:": ["sb3_dream", "DREAM", []]},
        {":generator:": {"bit_generator": "default_rng"}},
        {":space:": {"kind": "Text"}},
        {":scalar type:": "O"},
        {":enum:": ["Enum", 1]},
        {":call:": []},
    ],
)
def test_nothing_else_is_built(item: Any) -> None:
    with pytest.raises(ValueError):
        decode(item)


# Ordinary models


def settings_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("data"))


@pytest.mark.parametrize("name", CASES)
def test_ordinary_models_need_no_pickle(name: str, tmp_path: Path) -> None:
    CASES[name].start().learn(20).save(tmp_path / "model")
    assert not [key for key, item in settings_of(tmp_path / "model.zip").items() if ":serialized:" in str(item)]


RATES: list[Any] = [3e-4, linear_schedule(1e-3), LinearSchedule(1e-3, 1e-4, 0.5), ConstantSchedule(1e-3)]


@pytest.mark.parametrize("rate", RATES)
def test_schedules_come_back(rate: Any, tmp_path: Path) -> None:
    model = tiny(Walk(), learning_rate=rate, actor_learning_rate=rate)
    model.save(tmp_path / "model")
    loaded = DREAM.load(tmp_path / "model", device="cpu")
    for progress in (1.0, 0.3, 0.0):
        assert loaded.lr_schedule(progress) == model.lr_schedule(progress)
        assert loaded.policy.actor_lr_schedule(progress) == model.policy.actor_lr_schedule(progress)


def test_paths_files_and_suffixes(tmp_path: Path) -> None:
    model = tiny(Walk()).learn(12)
    file = io.BytesIO()
    for path in (tmp_path / "a" / "model", str(tmp_path / "b.zip"), tmp_path / "c.model", file):
        model.save(path)
    file.seek(0)
    assert sorted(each.name for each in tmp_path.rglob("*.*")) == ["b.zip", "c.model", "model.zip"]
    for path in (tmp_path / "a" / "model", tmp_path / "a" / "model.zip", tmp_path / "c.model", file):
        assert_same(parameters(DREAM.load(path, device="cpu")), parameters(model))
    with (tmp_path / "b.zip").open("rb") as opened:
        other = tiny(Walk(), seed=3)
        other.set_parameters(opened, device="cpu")  # type: ignore[arg-type]
    assert_same(parameters(other), parameters(model))


def test_a_path_to_logs_needs_no_pickle(tmp_path: Path) -> None:
    tiny(Walk(), tensorboard_log=tmp_path / "logs").save(tmp_path / "model")
    assert DREAM.load(tmp_path / "model").tensorboard_log == str(tmp_path / "logs")


def test_leaving_out_and_leaving_in(tmp_path: Path) -> None:
    model = tiny(Walk())
    model.save(tmp_path / "model", exclude=["gamma"], include=["_custom_logger"])
    stored = settings_of(tmp_path / "model.zip")
    assert "gamma" not in stored and stored["_custom_logger"] is False
    assert not {"policy", "replay_buffer", "env", "device", "_logger"} & set(stored)


def test_versions_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(Walk()).save(tmp_path / "model")
    DREAM.load(tmp_path / "model", print_system_info=True, device="cpu")
    printed = capsys.readouterr().out
    assert "CURRENT SYSTEM INFO" in printed and "SAVED MODEL SYSTEM INFO" in printed


def test_other_policy_kwargs_are_refused(tmp_path: Path) -> None:
    tiny(Walk()).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"cannot be changed: they are .*'width': 8.*, not {}"):
        DREAM.load(tmp_path / "model", policy_kwargs={}, device="cpu")


def test_models_outlive_their_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes are in the file, so that tomorrow's defaults do not break today's files."""
    model = tiny(Walk(), policy_kwargs={}).learn(12)
    model.save(tmp_path / "model")
    model.policy.save(str(tmp_path / "policy"))
    for kind, defaults in ((RecurrentWorldModel, {"width": 24, "memory": 8}), (ActorCritic, {"net_arch": (24,)})):
        monkeypatch.setattr(kind.__init__, "__kwdefaults__", {**kind.__init__.__kwdefaults__, **defaults})
    assert tiny(Walk(), policy_kwargs={}).policy.world_model.memory_size != model.policy.world_model.memory_size
    loaded = DREAM.load(tmp_path / "model", Walk(), device="cpu")
    assert_same(parameters(loaded), parameters(model))
    loaded.learn(12)
    loaded.save(tmp_path / "again")
    assert_same(parameters(DREAM.load(tmp_path / "again", device="cpu")), parameters(loaded))
    look = np.eye(5, dtype=np.int8)
    for policy in (DREAMAgent(tmp_path / "model").policy, MlpPolicy.load(str(tmp_path / "policy"), "cpu")):
        assert np.array_equal(policy.predict(look, deterministic=True)[0], model.predict(look, deterministic=True)[0])


def test_a_file_of_this_version_is_kept() -> None:
    assert (KEPT / f"{sb3_dream.__version__}.zip").is_file(), "python -m tests.sb3_dream.kept_files writes it"


@pytest.mark.parametrize("path", sorted(KEPT.glob("*.zip")), ids=lambda path: path.stem)
def test_files_of_released_versions_load(path: Path) -> None:
    assert sb3_dream.__version__ in {kept.stem for kept in KEPT.glob("*.zip")}, (
        "make one: tests/sb3_dream/kept_files.py"
    )
    model = DREAM.load(path, vectorized(MaskedWalk, 2), device="cpu")
    expected = np.load(path.with_suffix(".npz"))
    assert np.array_equal(model.predict(LOOKS, deterministic=True)[0], expected["actions"])
    np.testing.assert_allclose(model.predict(LOOKS, deterministic=True)[1][0], expected["memory"], atol=1e-5)  # type: ignore
    assert np.array_equal(DREAMAgent(path).get_action(LOOKS), expected["actions"])
    steps = model.num_timesteps
    model.learn(12, reset_num_timesteps=False)
    assert model.num_timesteps == steps + 12


def test_models_do_what_they_did_before_there_was_an_argument_for_it(tmp_path: Path) -> None:
    networks = {**NETWORKS, "world_model_kwargs": {**NETWORKS["world_model_kwargs"], "temperature": 0.3}}
    tiny(Walk(), policy_kwargs=networks).save(tmp_path / "new.zip")
    path = edited(tmp_path / "new.zip", tmp_path / "old.zip", forget_new_arguments)
    for policy in (DREAM.load(path, device="cpu").policy, DREAMAgent(path).policy):
        assert not policy.world_model.scaled_changes
        assert policy.world_model.noise == policy.world_model.temperature == 0.3
        assert not policy.world_model.observation_head.heavy_tails
    model = DREAM.load(tmp_path / "new.zip", device="cpu").policy.world_model
    assert model.scaled_changes
    assert model.noise == 0
    assert model.observation_head.heavy_tails


def test_older_models_take_the_bits_of_a_space_of_floats_for_numbers(tmp_path: Path) -> None:
    def model(find_bits: bool) -> DREAM:
        space = spaces.Box(0.0, 1.0, (5,), np.float32)
        env = gym.wrappers.TransformObservation(Walk(), lambda observation: observation.astype(np.float32), space)
        world_model = {**NETWORKS["world_model_kwargs"], "find_bits": find_bits}
        return tiny(env, policy_kwargs={**NETWORKS, "world_model_kwargs": world_model})

    model(True).save(tmp_path / "new.zip")
    assert DREAM.load(tmp_path / "new.zip", device="cpu").policy.world_model.observation_head.units
    model(False).save(tmp_path / "without.zip")
    path = edited(tmp_path / "without.zip", tmp_path / "old.zip", forget_new_arguments)
    assert not DREAM.load(path, device="cpu").policy.world_model.observation_head.units


def forget_new_arguments(data: dict[str, Any]) -> None:
    for name in RecurrentWorldModel.formerly:
        del data["_sizes"]["world_model_kwargs"][name]


# What has to be trusted


class Fuse:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                stored = json.loads(content)
                content = json.dumps(change(stored) or stored).encode()
            new.writestr(name, content)
    return target


def pickled(value: Any) -> dict[str, str]:
    return {":serialized:": base64.b64encode(cloudpickle.dumps(value)).decode()}


def halved(progress: float) -> float:
    return 1e-3 * (0.5 + progress / 2)


def test_code_of_ones_own_is_named_and_needs_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(Walk(), learning_rate=halved).save(tmp_path / "model")
    told = r"model.zip holds pickled objects.*learning_rate \(tests.sb3_dream.test_model_files.halved\).*trust=True"
    with pytest.raises(ValueError, match=told):
        DREAM.load(tmp_path / "model.zip")
    assert DREAM.load(tmp_path / "model", trust=True).lr_schedule(0.0) == halved(0.0)
    monkeypatch.setenv(TRUST_VARIABLE, "1")
    assert DREAM.load(tmp_path / "model").lr_schedule(0.0) == halved(0.0)
    with pytest.raises(ValueError, match=told):
        DREAM.load(tmp_path / "model.zip", trust=False)
    monkeypatch.setenv(TRUST_VARIABLE, "0")
    with pytest.raises(ValueError, match=told):
        DREAM.load(tmp_path / "model.zip")


def test_custom_objects_need_no_trust(tmp_path: Path) -> None:
    """As RL Zoo gives them; a name that the file does not have is ignored, as in Stable-Baselines3."""
    tiny(Walk(), learning_rate=halved).save(tmp_path / "model")
    custom = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0, "no_such": 1}
    model = DREAM.load(tmp_path / "model", custom_objects=custom, device="cpu")
    assert model.learning_rate == 0.0 and model.lr_schedule(1.0) == 0.0
    assert not hasattr(model, "no_such")
    with pytest.raises(ValueError, match="custom_objects must be a dict"):
        DREAM.load(tmp_path / "model", custom_objects=[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["learning_rate", "observation_space", "policy_kwargs", "_pause", "anything"])
def test_no_code_runs_before_a_file_is_trusted(key: str, tmp_path: Path) -> None:
    tiny(Walk()).save(tmp_path / "model")
    fuse = tmp_path / "fuse"
    path = edited(tmp_path / "model.zip", tmp_path / "bomb.zip", lambda data: data.update({key: pickled(Fuse(fuse))}))
    with pytest.raises(ValueError, match=rf"{key} \(\S+Path.touch"):
        DREAM.load(path)
    assert not fuse.exists()
    if key == "anything":
        DREAM.load(path, trust=True)
        assert fuse.exists(), "the pickle was live"


def test_no_code_runs_from_weights(tmp_path: Path) -> None:
    tiny(Walk()).save(tmp_path / "model")
    fuse = tmp_path / "fuse"
    with zipfile.ZipFile(tmp_path / "model.zip") as old, zipfile.ZipFile(tmp_path / "bomb.zip", "w") as new:
        for name in old.namelist():
            content = io.BytesIO()
            th.save({"weight": Fuse(fuse)}, content)
            new.writestr(name, content.getvalue() if name == "policy.pth" else old.read(name))
    th.save({"state_dict": Fuse(fuse), "data": "{}"}, tmp_path / "policy")
    (tmp_path / "pickle.zip").write_bytes(pickle.dumps(Fuse(fuse)))
    for load in (
        lambda: DREAM.load(tmp_path / "bomb.zip", trust=True),
        lambda: DREAM.load(tmp_path / "pickle.zip", trust=True),
        lambda: DREAMAgent(tmp_path / "bomb.zip"),
        lambda: tiny(Walk()).set_parameters(str(tmp_path / "bomb.zip")),
    ):
        with pytest.raises(ValueError, match="not a saved DREAM model, or it is damaged"):
            load()
    with pytest.raises(ValueError, match="not a saved policy of DREAM, or it is damaged"):
        MlpPolicy.load(str(tmp_path / "policy"))
    assert not fuse.exists()


# Wrong files


def test_truncated_and_flipped_files(tmp_path: Path) -> None:
    """Wherever a file was cut or changed, it is a model or there is one clear error."""
    model = tiny(Walk()).learn(12)
    model.save(tmp_path / "model")
    whole = (tmp_path / "model.zip").read_bytes()
    rng = np.random.default_rng(0)
    for end in rng.integers(0, len(whole), 20):
        with pytest.raises(ValueError, match="not a saved DREAM model, or it is damaged"):
            DREAM.load(io.BytesIO(whole[:end]))
    for place in rng.integers(0, len(whole), 20):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        try:
            loaded = DREAM.load(io.BytesIO(bytes(flipped)), device="cpu")
        except ValueError as error:
            assert "the file" in str(error)
        else:
            assert_same(parameters(loaded), parameters(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: [1], "settings in .*edited.zip are damaged"),
        (lambda data: data.pop("observation_space") and None, "has no observation_space"),
        (lambda data: data.update(policy_class="MlpPolicy"), "model of another algorithm"),
        (lambda data: data.update(policy_class={":class:": "CompactWorldModel"}), "model of another algorithm"),
        (
            lambda data: data.update(action_space={":space:": {"kind": "Discrete", "n": 7}}),
            "action_space cannot be read",
        ),
        (lambda data: data.update(policy_kwargs={"colour": 1}), "do not fit this version: TypeError.*colour"),
        (lambda data: data.update(policy_kwargs=3), "do not fit this version"),
        (lambda data: data["_sizes"]["world_model_kwargs"].update(width=9), "do not fit this version: RuntimeError"),
        (lambda data: data.update(learn=3), "'learn' is no setting"),
        (lambda data: data.update(gamma={":future:": 3}), "gamma cannot be read.*unknown kind of value ':future:'"),
        (lambda data: data.update(buffer_size="many"), "do not fit this version"),
    ],
)
def test_edited_settings(change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path) -> None:
    tiny(Walk()).save(tmp_path / "model")
    path = edited(tmp_path / "model.zip", tmp_path / "edited.zip", change)
    with pytest.raises(ValueError, match=message):
        DREAM.load(path)


def test_foreign_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    PPO("MlpPolicy", vectorized(Walk, 1), n_steps=8, batch_size=8).save(tmp_path / "ppo.zip")
    (tmp_path / "text.zip").write_text("hello")
    (tmp_path / "empty.zip").write_bytes(b"")
    for name in ("zip", "ppo", "text", "empty"):
        with pytest.raises(ValueError, match=rf"{name}.zip is not a saved DREAM model, or it is damaged"):
            DREAM.load(tmp_path / f"{name}.zip")
    with pytest.raises(ValueError, match="model of another algorithm"):
        DREAM.load(tmp_path / "ppo.zip", trust=True)
    with pytest.raises(FileNotFoundError, match=r"no saved model .*nothing or .*nothing\.zip"):
        DREAM.load(tmp_path / "nothing")


def test_other_environments_are_refused(tmp_path: Path) -> None:
    tiny(Walk()).save(tmp_path / "model")
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        DREAM.load(tmp_path / "model", Walk(cells=6))


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(vectorized(lambda: FloatWalk(force=True), 1), action_noise=NormalActionNoise(np.zeros(1), np.ones(1)))
    model.save(tmp_path / "model")
    before = (tmp_path / "model.zip").read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(th, "save", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
    assert (tmp_path / "model.zip").read_bytes() == before
    assert model.policy_kwargs == NETWORKS
