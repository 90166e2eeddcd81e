"""Files of replay rows give back the buffer bit for bit, and write only what is new."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_dream.replay import SequenceReplayBuffer
from sb3_dream.replay_files import ReplayChain, read_replay, write_replay
from tests.sb3_dream.replay_model import BITS, BOX, Pair, random_pair

steps = st.lists(st.sampled_from(["", "", "", "", "terminated", "truncated"]), min_size=3, max_size=3)
operation = st.one_of(
    st.tuples(st.just("add"), steps),
    st.tuples(st.just("add"), steps),
    st.tuples(st.just("add_many"), st.integers(1, 12)),
    st.tuples(st.just("cut")),
    st.tuples(st.just("trajectory"), st.integers(0, 2), st.integers(1, 14)),
    st.tuples(st.just("refresh"), st.integers(1, 9)),
    st.tuples(st.just("resize"), st.integers(1, 3)),
    st.tuples(st.just("reset")),
    st.tuples(st.just("save")),
    st.tuples(st.just("save elsewhere")),
    st.tuples(st.just("load")),
)


def make(total_size: int, n_envs: int) -> SequenceReplayBuffer:
    return SequenceReplayBuffer(
        total_size,
        spaces.Dict({"a": BOX, "b": BITS}),
        spaces.Discrete(10**6),
        device="cpu",
        n_envs=n_envs,
        memory_size=3,
        memory_dtype=np.float32,
        mask_shape=9,
        binary=True,
    )


def assert_equal(left: SequenceReplayBuffer, right: SequenceReplayBuffer) -> None:
    """In all that is stored and in all that is drawn from now on."""
    for one, two in zip(left._columns(), right._columns(), strict=True):
        assert np.array_equal(one.data, two.data), one.name
    for name in ("heads", "starts", "capacity"):
        assert np.array_equal(getattr(left._rings, name), getattr(right._rings, name)), name
    for name in ("_pending_reward", "_fresh", "pos", "full", "n_envs", "buffer_size", "total_size", "_allocated"):
        assert np.array_equal(getattr(left, name), getattr(right, name)), name
    assert np.array_equal(left._rows.rewarded.counts, right._rows.rewarded.counts)
    assert left.rng.bit_generator.state == right.rng.bit_generator.state


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3), st.integers(6, 11), st.lists(operation, max_size=40))
def test_any_history_comes_back(n_envs: int, capacity: int, operations: list[Any]) -> None:
    folder = Path(tempfile.mkdtemp())
    pair, chain, saves = Pair(n_envs, capacity), ReplayChain(folder), 0

    def save(chain: ReplayChain) -> None:
        nonlocal saves
        saves += 1
        chain.save(pair.buffer, f"rows-{saves:06d}.zip")
        assert_equal(ReplayChain(chain.folder).load(chain.names, make), pair.buffer)

    for op in operations:
        n_envs = pair.buffer.n_envs
        match op:
            case ("add", endings):
                pair.add([1.0] * n_envs, endings[:n_envs])
            case ("add_many", count):
                for i in range(count):
                    pair.add([float(i % 3 == 0)] * n_envs, [""] * n_envs)
            case ("cut",):
                pair.buffer.truncate_last_trajectory()
            case ("trajectory", env, length):
                pair.add_trajectory(env % n_envs, [0.5] * length, True)
            case ("refresh", length) if pair.buffer.n_rows:
                samples = pair.buffer.sample_sequences(3, length)
                pair.buffer.update_memory(samples.rows, np.full((3, length, 3), pair.tag(1)[0]))
            case ("resize", count):
                pair.buffer.resize_envs(count)
                pair.model.rows = [[] for _ in range(count)]
                pair.model.pending, pair.model.fresh, pair.model.sequence = [0.0] * count, [True] * count, [0] * count
            case ("reset",):
                pair.buffer.reset()
            case ("save",):
                save(chain)
            case ("save elsewhere",):
                save(ReplayChain(folder))
            case ("load",) if chain.names:
                chain = ReplayChain(folder)
                save(chain)
                pair.buffer = chain.load(chain.names, make)
    save(chain)
    file = io.BytesIO()
    write_replay(file, pair.buffer)
    assert_equal(read_replay(file, make), pair.buffer)
    shutil.rmtree(folder)


def test_each_file_holds_what_is_new(tmp_path: Path) -> None:
    pair = random_pair(0, 2, 5_000, 4_000)
    chain = ReplayChain(tmp_path)
    chain.save(pair.buffer, "rows-1.zip")
    for _ in range(20):
        pair.add([0.0, 1.0], ["", "terminated"])
    samples = pair.buffer.sample_sequences(4, 5)
    pair.buffer.update_memory(samples.rows, np.zeros((4, 5, 3)))
    chain.save(pair.buffer, "rows-2.zip")
    first, second = ((tmp_path / f"rows-{i}.zip").stat().st_size for i in (1, 2))
    assert second < first / 20
    assert chain.names == ["rows-1.zip", "rows-2.zip"]
    assert_equal(ReplayChain(tmp_path).load(chain.names, make), pair.buffer)


def test_a_chain_never_takes_more_than_twice_the_buffer(tmp_path: Path) -> None:
    """Over several rounds of the rings, rows are written twice each on average, at most."""
    pair, chain = random_pair(0, 2, 400, 10), ReplayChain(tmp_path)
    written = 0
    for i in range(60):
        for _ in range(40):
            pair.add([0.0, 1.0], ["", ""])
        chain.save(pair.buffer, f"rows-{i:02d}.zip")
        written += (tmp_path / f"rows-{i:02d}.zip").stat().st_size
    write_replay(tmp_path / "whole.zip", pair.buffer)
    whole = (tmp_path / "whole.zip").stat().st_size
    kept = sum((tmp_path / name).stat().st_size for name in chain.names)
    assert len(chain.names) > 3
    assert kept < 3 * whole  # twice the rows, and what each file has besides
    rounds = pair.buffer._rings.heads[0] / 400
    assert written < 3 * rounds * whole
    assert_equal(ReplayChain(tmp_path).load(chain.names, make), pair.buffer)


def test_large_buffers_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = random_pair(0, 3, 50, 70)
    monkeypatch.setattr("sb3_dream.replay_files._PIECE", 7)
    write_replay(tmp_path / "replay", pair.buffer)
    assert_equal(read_replay(tmp_path / "replay", make), pair.buffer)
    assert [path.name for path in tmp_path.iterdir()] == ["replay.pkl"]


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    pair = random_pair(0, 2, 20, 30)
    write_replay(tmp_path / "replay.pkl", pair.buffer)
    whole = (tmp_path / "replay.pkl").read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 30):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        for content in (whole[:place], bytes(flipped)):
            try:
                again = read_replay(io.BytesIO(content), make)
            except ValueError as error:
                assert "the file holds no replay of DREAM, or it is damaged" in str(error)
            else:  # the date of a part, for example
                assert_equal(again, pair.buffer)
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_replay(tmp_path / "nothing", make)

    def other(total_size: int, n_envs: int) -> SequenceReplayBuffer:
        return SequenceReplayBuffer(total_size, BOX, spaces.Discrete(10**6), "cpu", n_envs)

    def unpacked(total_size: int, n_envs: int) -> SequenceReplayBuffer:
        space = spaces.Dict({"a": BOX, "b": BITS})
        kwargs: dict[str, Any] = {"memory_size": 3, "mask_shape": 9, "memory_dtype": np.float32}
        return SequenceReplayBuffer(total_size, space, spaces.Discrete(10**6), "cpu", n_envs, **kwargs)

    for wrong, name in ((other, "observation_space"), (unpacked, "layout")):
        with pytest.raises(ValueError, match=f"of another model: its {name} is"):
            read_replay(tmp_path / "replay.pkl", wrong)
