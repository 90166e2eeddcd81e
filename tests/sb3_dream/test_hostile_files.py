"""Files that somebody edited, part by part: none runs code, none fills the memory, and each gets one clear error."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_dream.dream import DREAM
from sb3_dream.env_snapshots import restore_snapshot, take_snapshot
from sb3_dream.plain_values import decode, encode
from sb3_dream.policies import MlpPolicy
from sb3_dream.zip_files import opened
from tests.sb3_dream.resume_cases import CASES
from tests.sb3_dream.tiny import Walk, tiny

CASE = CASES["walk"]
Parts = dict[str, bytes]


class Fuse:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Parts, Parts]:
    """The parts of a model file and of a replay file."""
    folder = tmp_path_factory.mktemp("originals")
    model = CASE.start().learn(20)
    model.save(folder / "model.zip")
    model.save_replay_buffer(folder / "replay.pkl")
    return parts(folder / "model.zip"), parts(folder / "replay.pkl")


def parts(path: Path) -> Parts:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, content: dict[str, Any], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in content.items():
            archive.writestr(name, part)
    return path


def resume(path: Path) -> DREAM:
    model = DREAM.load(path, CASE.make(), device="cpu")
    return model.learn(10, reset_num_timesteps=False)


# Model files

WEIGHTS = ("policy.pth", "policy.world_model_optimizer.pth", "policy.actor_critic_optimizer.pth")


@pytest.mark.parametrize("name", ["data", "_sb3_dream_version", "system_info.txt", *WEIGHTS])
def test_a_pickle_in_the_place_of_any_part(name: str, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    path = write(tmp_path / "model.zip", originals[0] | {name: pickle.dumps(Fuse(fuse))})
    if name == "_sb3_dream_version":  # nobody looks at what it says
        resume(path)
    else:
        with pytest.raises(ValueError, match=r"model.zip"):
            DREAM.load(path, trust=True)
    assert not fuse.exists()


@pytest.mark.parametrize("name", ["data", "_sb3_dream_version", *WEIGHTS])
def test_parts_that_are_missing_or_have_another_name(name: str, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    model = originals[0]
    for other in ("../../evil", "/tmp/evil.pth", None):
        content = {(other if each == name else each): part for each, part in model.items() if each != name or other}
        with pytest.raises(ValueError, match=r"model.zip"):
            DREAM.load(write(tmp_path / "model.zip", content))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"], "nothing is unpacked"


@pytest.mark.parametrize("name", ["../../evil.pth", "env.reset.pth", "policy.actor_critic.pth"])
def test_further_parts(name: str, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    path = write(tmp_path / "model.zip", originals[0] | {name: originals[0]["policy.pth"]})
    with pytest.raises(ValueError, match=r"model.zip"):
        DREAM.load(path)


def test_what_unfolds_into_more_than_the_file(originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    model, replay = originals
    weights = io.BytesIO()
    th.save({"weight": th.zeros(10**6)}, weights)
    inner = write(tmp_path / "inner", parts(weights), zipfile.ZIP_DEFLATED).read_bytes()  # type: ignore[arg-type]
    bombs = {
        "data": write(tmp_path / "1.zip", {**model, "data": b" " * 10**7 + model["data"]}, zipfile.ZIP_DEFLATED),
        "a part": write(tmp_path / "2.zip", {**model, "more.pth": bytes(10**7)}, zipfile.ZIP_DEFLATED),
        "weights": write(tmp_path / "3.zip", {**model, "policy.pth": inner}),
    }
    for path in bombs.values():
        with pytest.raises(ValueError, match=r"\d.zip is not a saved .* its parts are larger than its [\d,]+ bytes"):
            DREAM.load(path)
    with pytest.raises(ValueError, match=r"inner is not a saved policy.* its parts are larger"):
        MlpPolicy.load(str(tmp_path / "inner"))
    write(tmp_path / "replay.pkl", replay | {"header": b" " * 10**7 + replay["header"]}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"replay.pkl holds no replay .* its parts are larger"):
        CASE.start().load_replay_buffer(tmp_path / "replay.pkl")
    with opened(write(tmp_path / "whole.zip", model)) as archive:
        assert set(archive.namelist()) == set(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("env", [1]), ("policy", {}), ("replay_buffer", [1]), ("_stream", 3), ("__dict__", {}), ("_logger", {})),
        *(("num_timesteps", "x"), ("_n_updates", None), ("_owed_updates", "x"), ("ep_info_buffer", 3), ("n_envs", "x")),
        *(("gamma", "x"), ("dream_length", "x"), ("ent_coef", -1), ("sequence_length", 0), ("action_noise", [1])),
        *(("tensorboard_log", 3), ("train_freq", "x"), ("_sizes", 3), ("_from_env", 3), ("_dreams", 3)),
    ],
)
def test_edited_settings(name: str, value: Any, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    settings = json.loads(originals[0]["data"]) | {name: value}
    path = write(tmp_path / "model.zip", originals[0] | {"data": json.dumps(settings)})
    with pytest.raises(ValueError, match=r"model.zip"):
        DREAM.load(path, device="cpu")


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a": ' * 100_000, b"\xff\xfe", b"3", b""])
def test_settings_that_are_none(data: bytes, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.zip"):
        DREAM.load(write(tmp_path / "model.zip", originals[0] | {"data": data}))


@pytest.mark.parametrize("place", ["", "playing"])
def test_an_edited_state_of_the_run(place: str, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    settings = json.loads(originals[0]["data"])
    state = settings["_pause"][":object:"][1]
    state = state[place][":object:"][1] if place else state
    for name, before in list(state.items()):
        if name in ("normalizer", "original_observations"):  # not of this run
            continue
        state[name] = 3
        path = write(tmp_path / "model.zip", originals[0] | {"data": json.dumps(settings)})
        with pytest.raises(ValueError, match="cannot go on from where the saved run stood"):
            resume(path)
        state[name] = before
    resume(write(tmp_path / "model.zip", originals[0] | {"data": json.dumps(settings)}))


def test_a_snapshot_can_set_nothing_else() -> None:
    for name in ("normalised", "time limit"):
        env = CASES[name].make()
        env.reset()
        snapshot = take_snapshot(env)
        assert snapshot is not None and restore_snapshot(env, snapshot)
        count, wrappers, states = decode(json.loads(snapshot))
        if name == "normalised":
            wrappers[0][1]["venv"] = 3
        else:
            states[0][1]["env"] = 3
        with pytest.raises(ValueError, match="is nothing that wrappers of environments remember"):
            restore_snapshot(env, json.dumps(encode([count, wrappers, states])))
        assert env.reset() is not None


def test_what_a_refusal_says_cannot_hide_itself(originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    settings = json.loads(originals[0]["data"])
    settings |= {f"\x1b[2J\r{i}": {":serialized:": "!"} for i in range(1_000)}
    path = write(tmp_path / "model.zip", originals[0] | {"data": json.dumps(settings)})
    with pytest.raises(ValueError, match=r"holds pickled objects.*\\x1b\[2J\\x0d0 \(damaged") as raised:
        DREAM.load(path)
    assert "\x1b" not in str(raised.value) and len(str(raised.value)) < 4_000


# Policies

POLICIES: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_bytes(b""),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Fuse(path.with_name("fuse")))),
    "pickle inside": lambda path: th.save({"state_dict": Fuse(path.with_name("fuse")), "data": "{}"}, path),
    "list": lambda path: th.save([1], path),
    "nothing": lambda path: th.save({"data": "{}", "state_dict": {}}, path),
}


@pytest.mark.parametrize("kind", POLICIES)
def test_foreign_policies(kind: str, tmp_path: Path) -> None:
    POLICIES[kind](tmp_path / "policy")
    with pytest.raises(ValueError, match=r"policy(:| is not a saved policy of DREAM)"):
        MlpPolicy.load(str(tmp_path / "policy"), trust=True)
    assert not (tmp_path / "fuse").exists()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        MlpPolicy.load(str(tmp_path / "nowhere"))


def test_truncated_policies(tmp_path: Path) -> None:
    tiny(Walk()).policy.save(str(tmp_path / "policy"))
    whole = (tmp_path / "policy").read_bytes()
    for end in np.random.default_rng(0).integers(0, len(whole), 10):
        (tmp_path / "policy").write_bytes(whole[:end])
        with pytest.raises(ValueError, match="is not a saved policy of DREAM, or it is damaged"):
            MlpPolicy.load(str(tmp_path / "policy"))


# Replay files


def array(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


def huge() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("heads", [-5, -5]), ("heads", [10**6, 10**6]), ("heads", [2**62, 2**62]), ("heads", [1]), ("heads", None)),
        *(("starts", [10**6, 3]), ("starts", [-5, 0]), ("starts", None), ("rng", 3), ("pieces", [1]), ("pieces", "x")),
        *(("total_size", "x"), ("total_size", -1), ("n_envs", 10**6), ("layout", 3), ("pieces", [10**9])),
    ],
)
def test_edited_headers_of_replay_files(name: str, value: Any, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    stored = encode(np.array(value, np.int64)) if name in ("heads", "starts") and value else value
    header = json.loads(originals[1]["header"]) | {name: stored}
    path = write(tmp_path / "replay.pkl", originals[1] | {"header": json.dumps(header)})
    with pytest.raises(ValueError, match=r"replay.pkl"):
        CASE.start().load_replay_buffer(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("slots", array([10**9] * 28)),
        ("slots", array([-1] * 28)),
        ("slots", array([0.5] * 28)),
        ("slots", array([0])),
        ("0", huge()),
        ("0", b"\x93NUMPY"),
        ("3", array(np.full(28, 250))),
        ("3", pickle.dumps(print)),
    ],
)
def test_edited_rows_of_replay_files(name: str, content: bytes, originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    path = write(tmp_path / "replay.pkl", originals[1] | {f"0/{name}.npy": content})
    with pytest.raises(ValueError, match=r"replay.pkl holds no replay of DREAM, or it is damaged"):
        CASE.start().load_replay_buffer(path)


def test_no_code_runs_from_an_array_of_objects(originals: tuple[Parts, Parts], tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([Fuse(tmp_path / "fuse")], dtype=object), allow_pickle=True)
    path = write(tmp_path / "replay.pkl", originals[1] | {"0/0.npy": file.getvalue()})
    with pytest.raises(ValueError, match="holds pickled objects"):
        CASE.start().load_replay_buffer(path)
    assert not (tmp_path / "fuse").exists()


# Checkpoints


@pytest.mark.parametrize(
    "about", [b"[" * 100_000, b"\xff", b"3", b"{}", b'{"replay": {"rows-1.zip": 2}}', b'{"replay": [3]}']
)
def test_edited_checkpoints(about: bytes, tmp_path: Path) -> None:
    checkpoint = CASE.start().learn(10).save_checkpoint(tmp_path)
    (checkpoint / "checkpoint.json").write_bytes(about)
    with pytest.raises(ValueError, match=r"checkpoint.json is damaged"):
        DREAM.load_checkpoint(tmp_path)
