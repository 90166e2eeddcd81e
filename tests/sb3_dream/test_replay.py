"""``SequenceReplayBuffer`` against a model of it that is a plain list of rows, and against SB3's contract."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.vec_env import VecNormalize

from sb3_dream.replay import SequenceReplayBuffer, SequenceRows, SequenceSamples
from sb3_dream.replay_draws import draw_balanced
from tests.sb3_dream.replay_model import BITS, BOX, Model, Pair, check_against_model, random_pair

rewards_of_a_step = st.sampled_from([0.0, 0.0, 0.0, 1.0, -2.5])
operation = st.one_of(
    st.tuples(st.just("add"), st.lists(rewards_of_a_step, min_size=3, max_size=3),
              st.lists(st.sampled_from(["", "", "", "", "terminated", "truncated"]), min_size=3, max_size=3)),
    st.tuples(st.just("add_many"), st.integers(1, 12)),
    st.tuples(st.just("cut")),
    st.tuples(st.just("trajectory"), st.integers(0, 2), st.lists(rewards_of_a_step, min_size=1, max_size=14),
              st.booleans()),
    st.tuples(st.just("pickle")),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(2, 11), st.integers(1, 7), st.lists(operation, max_size=30), st.integers(0, 9))
def test_any_history_reads_back_as_the_list_of_its_rows(
    n_envs: int, capacity: int, length: int, operations: list[Any], seed: int
) -> None:
    pair = Pair(n_envs, capacity)
    pair.add([0.0] * n_envs, [""] * n_envs)
    for op in operations:
        match op:
            case ("add", rewards, endings):
                pair.add(rewards[:n_envs], endings[:n_envs])
            case ("add_many", count):
                for i in range(count):
                    pair.add([float(i % 3 == 0)] * n_envs, [""] * n_envs)
            case ("cut",):
                pair.cut()
            case ("trajectory", env, rewards, terminated):
                pair.add_trajectory(env % n_envs, rewards, terminated)
            case ("pickle",):
                pair.buffer = round_trip(pair.buffer)
    model, buffer = pair.model, pair.buffer
    buffer.seed(seed)
    pair.check_sequences(24, length)
    pair.check_sequences(24, length, reward_fraction=0.5)
    pair.check_sequences(24, length, reward_fraction=0.3, terminal_fraction=0.5)

    stored = [(env, i) for env in range(n_envs) for i in model.stored(env)]
    assert buffer.n_rows == len(stored)
    assert buffer.size() == max(len(model.stored(env)) for env in range(n_envs))
    assert buffer.full == (buffer.size() == capacity)
    assert buffer.newest_episodes(100) == model.complete_episodes()
    assert buffer.newest_episodes(1) == model.complete_episodes()[:1]
    for env, start, count in buffer.newest_episodes(3):
        episode = buffer.read_rows(env, start, count)
        assert episode.is_first[0, 0] and episode.is_last[0, -1] and episode.valid.all()
        check_against_model(episode, model, count)

    transitions = {
        (model.rows[env][i - 1].tag, model.rows[env][i].tag, model.rows[env][i].reward, model.rows[env][i].terminated)
        for env, i in stored
        if i - 1 in model.stretch(env, i)
    }
    if not transitions:
        with pytest.raises(ValueError, match="no transition"):
            buffer.sample(1)
        return
    samples = buffer.sample(300)
    drawn = zip(
        samples.actions[:, 0].tolist(),
        samples.next_observations["a"][:, 0].tolist(),
        samples.rewards[:, 0].tolist(),
        samples.dones[:, 0].tolist(),
        strict=True,
    )
    assert set(drawn) <= transitions
    assert np.array_equal(samples.observations["a"][:, 0], samples.actions[:, 0])


def round_trip(buffer: SequenceReplayBuffer) -> SequenceReplayBuffer:
    file = io.BytesIO()
    save_to_pkl(file, buffer)
    file.seek(0)
    return load_from_pkl(file)


def same(left: SequenceSamples, right: SequenceSamples) -> bool:
    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
        return np.array_equal(a, b)

    return all(equal(a, b) for a, b in zip(left, right, strict=True))


def test_every_transition_and_every_row_is_equally_likely() -> None:
    pair = random_pair(1, n_envs=3, capacity=20, steps=70)
    draws = 60_000
    samples = pair.buffer.sample_sequences(draws, 1)
    counts = Counter(zip(*(x.tolist() for x in samples.rows[:2]), strict=True))
    assert len(counts) == pair.buffer.n_rows == 60
    # 5 standard deviations of a binomial count
    assert all(abs(n - draws / 60) < 5 * np.sqrt(draws / 60) for n in counts.values())

    stored = [(env, i) for env in range(3) for i in pair.model.stored(env)]
    arrivals = [pair.model.rows[env][i].tag for env, i in stored if i - 1 in pair.model.stretch(env, i)]
    tags = Counter(pair.buffer.sample(draws).next_observations["a"][:, 0].int().tolist())
    assert sorted(tags) == sorted(arrivals)
    assert all(abs(n - draws / len(arrivals)) < 5 * np.sqrt(draws / len(arrivals)) for n in tags.values())


def test_uneven_rings_are_drawn_by_their_rows() -> None:
    pair = Pair(2, 50)
    pair.add_trajectory(1, [0.0] * 29, terminated=True)
    pair.add_trajectory(0, [0.0] * 9, terminated=True)
    drawn = pair.buffer.sample_sequences(40_000, 1).rows.env_index
    assert abs(drawn.mean() - 30 / 40) < 0.02


def test_a_window_begins_at_its_row_or_ends_with_the_episode() -> None:
    pair = Pair(1, 100)
    pair.add_trajectory(0, [0.0] * 9, terminated=True)  # rows 0 to 9
    pair.add_trajectory(0, [0.0] * 9, terminated=False)  # rows 10 to 19
    starts = Counter(pair.buffer.sample_sequences(40_000, 4).rows.start.tolist())
    expected = dict.fromkeys((*range(6), *range(10, 16)), 2000) | {6: 8000, 16: 8000}
    assert starts.keys() == expected.keys()
    assert all(abs(starts[row] - n) < 5 * np.sqrt(n) for row, n in expected.items())


def test_firsts_are_drawn_alike_whatever_the_length_of_their_episodes() -> None:
    pair = Pair(1, 100)
    for actions in (1, 4, 29):  # episodes begin at rows 0, 2 and 7
        pair.add_trajectory(0, [0.0] * actions, terminated=True)
    drawn = [pair.buffer.sample_firsts(10) for _ in range(300)]
    starts = Counter(row for samples in drawn for row in samples.rows.start.tolist())
    assert starts.keys() == {0, 2, 7}
    assert all(600 < count < 1400 for count in starts.values())
    assert all(samples.is_first.all() and samples.valid.all() for samples in drawn)


def test_no_firsts_are_drawn_where_none_are_left() -> None:
    pair = Pair(1, 20)
    for _ in range(50):
        pair.add([0.0], [""])
    assert len(pair.buffer.sample_firsts(5).valid) == 0


def test_rows_before_rewards_are_of_the_same_episode_and_all_alike() -> None:
    pair = Pair(1, 100)
    pair.add_trajectory(0, [0.0, 0.0, 1.0, 0.0], terminated=True)  # rows 0 to 4, with a reward on arrival at 3
    pair.add_trajectory(0, [0.0] * 9 + [1.0], terminated=True)  # rows 5 to 15, with one on arrival at 15
    assert pair.buffer.n_rewarded == 2
    samples = pair.buffer.sample_before_rewards(4, 6000)
    starts = Counter(samples.rows.start.tolist())
    expected = dict.fromkeys(range(3), 1000) | dict.fromkeys(range(11, 15), 750)
    assert starts.keys() == expected.keys()
    assert all(abs(starts[row] - n) < 5 * np.sqrt(n) for row, n in expected.items())
    assert samples.valid.shape == (6000, 1)


def test_nothing_is_drawn_before_rewards_that_are_not_there_or_the_oldest_row() -> None:
    pair = Pair(1, 5)
    pair.add_trajectory(0, [0.0] * 3, terminated=False)
    assert len(pair.buffer.sample_before_rewards(3, 50).valid) == 0
    for reward in (1.0, 0.0):  # on arrival at the second row
        pair.add([reward], [""])
    assert pair.buffer.sample_before_rewards(3, 50).rows.start.tolist() == [4] * 50
    while pair.model.rows[0][pair.model.stored(0)[0]].reward == 0:
        pair.add([0.0], [""])
    assert len(pair.buffer.sample_before_rewards(3, 50).valid) == 0


def test_reward_fraction_draws_the_rewarded_rows_and_only_those() -> None:
    pair = Pair(2, 1000)
    rng = np.random.default_rng(0)
    for step in range(3000):  # three times around
        pair.add(((rng.random(2) < 0.01) * 2.0).tolist(), ["terminated" if step % 97 == 0 else ""] * 2)
    rewarded = {(env, i) for env in range(2) for i in pair.model.stored(env) if pair.model.rows[env][i].reward != 0}
    assert 5 < len(rewarded) < 60
    draws = 6000
    samples = pair.buffer.sample_sequences(draws, 1, reward_fraction=1.0)
    counts = Counter(zip(*(x.tolist() for x in samples.rows[:2]), strict=True))
    assert counts.keys() == rewarded
    expected = draws / len(rewarded)
    assert all(abs(n - expected) < 5 * np.sqrt(expected) for n in counts.values())

    half = pair.check_sequences(400, 1, reward_fraction=0.5)
    assert 0.4 < (half.rewards != 0).float().mean() < 0.6
    windows = pair.check_sequences(400, 8, reward_fraction=1.0)
    assert (windows.rewards != 0).any(dim=1).all()
    places = Counter(windows.rewards.ne(0).float().argmax(dim=1).tolist())
    # what leads to a reward is in the sequence too, and always the action that earned it
    assert set(places) >= set(range(1, 8)) and (windows.rewards[:, 1:] != 0).any(dim=1).all()


def test_terminal_fraction_draws_the_ends_of_episodes_that_terminated_and_only_those() -> None:
    pair = Pair(1, 100)
    for actions, terminated in ((1, True), (4, False), (29, True), (9, True)):  # ends are rows 1, 6, 36 and 46
        pair.add_trajectory(0, [0.0] * actions, terminated=terminated)
    pair.add([0.0], [""])
    drawn = [pair.check_sequences(10, 3, terminal_fraction=1.0) for _ in range(300)]
    starts = Counter(row for samples in drawn for row in samples.rows.start.tolist())
    assert starts.keys() == {0, 34, 44}
    assert all(600 < count < 1400 for count in starts.values())
    assert all(samples.terminated.any(1).all() for samples in drawn)
    half = pair.check_sequences(400, 1, terminal_fraction=0.5).terminated.float().mean()
    assert 0.4 < half < 0.65  # some of the others are ends by chance


def test_without_any_terminal_row_the_fraction_is_drawn_uniformly() -> None:
    pair = Pair(1, 10)
    pair.add_trajectory(0, [0.0] * 5, terminated=False)
    assert set(pair.check_sequences(300, 1, terminal_fraction=1.0).rows.start.tolist()) == set(range(6))


def test_a_class_of_rewards_is_drawn_like_the_root_of_its_size() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(0.98, 1.02, 900), np.full(25, 5.0), [-40.0] * 4])
    drawn = values[draw_balanced(rng, values, 9000)]
    for low, high, root in ((0.9, 1.1, 30), (5.0, 5.0, 5), (-40.0, -40.0, 2)):
        assert abs(((drawn >= low) & (drawn <= high)).mean() - root / 37) < 0.02


def test_without_any_reward_the_fraction_is_drawn_uniformly() -> None:
    pair = Pair(1, 10)
    pair.add_trajectory(0, [0.0] * 5, terminated=True)
    assert set(pair.buffer.sample_sequences(300, 1, reward_fraction=1.0).rows.start.tolist()) == set(range(6))


def test_overwritten_rows_keep_their_newer_memory() -> None:
    pair = Pair(2, 8)
    for _ in range(8):
        pair.add([0.0, 0.0], ["", ""])
    samples = pair.buffer.sample_sequences(64, 4)
    for _ in range(3):
        pair.add([0.0, 0.0], ["", ""])  # overwrites the rows 0, 1 and 2
    fresh = -(samples.rows.start[:, None] + np.arange(4.0, dtype=np.float32))[..., None].repeat(3, axis=-1)
    length = samples.rows.length - (samples.rows.start == 4)  # row 7 is touched by the windows that begin at 4 alone
    pair.buffer.update_memory(samples.rows._replace(length=length), th.from_numpy(fresh))
    for env in range(2):
        for i in range(3, 7):
            pair.model.rows[env][i] = replace(pair.model.rows[env][i], memory=-i)
    pair.check_sequences(200, 1)


def test_of_two_memories_of_one_row_the_last_one_is_kept() -> None:
    pair = random_pair(0, 1, 20, 30)
    rows = pair.buffer.sample_sequences(1, 3).rows
    twice = SequenceRows(*(part.repeat(2) for part in rows))
    pair.buffer.update_memory(twice, np.stack([np.full((3, 3), 1.0), np.full((3, 3), 2.0)]).astype(np.float32))
    assert pair.buffer.read_rows(0, int(rows.start[0]), 1).memory.tolist() == [[2.0] * 3]


def test_update_memory_refuses_other_shapes_and_forgets_rows_of_a_reset_buffer() -> None:
    pair = random_pair(0, 2, 20, 30)
    samples = pair.buffer.sample_sequences(4, 5)
    with pytest.raises(ValueError, match="memory of shape"):
        pair.buffer.update_memory(samples.rows, th.zeros(4, 5, 2))
    pair.buffer.reset()
    pair.buffer.update_memory(samples.rows, th.zeros(4, 5, 3))
    assert pair.buffer.n_rows == pair.buffer.size() == pair.buffer.pos == 0
    with pytest.raises(ValueError, match="empty"):
        pair.buffer.sample_sequences(1, 1)


@pytest.mark.parametrize("steps", [5, 40, 200])
def test_a_pickled_buffer_goes_on_exactly_as_the_original(steps: int) -> None:
    pair = random_pair(3, 2, 60, steps)
    copy = round_trip(pair.buffer)
    assert same(pair.buffer.sample_sequences(16, 8), copy.sample_sequences(16, 8))
    original, first_tag = pair.buffer, pair.tags
    pair.add([1.0, 2.0], ["", "terminated"])
    pair.buffer, pair.tags = copy, first_tag
    pair.model = Model(2, 60)  # only the buffers are compared
    pair.add([1.0, 2.0], ["", "terminated"])
    for fraction in (0.0, 0.5):
        left, right = (b.sample_sequences(32, 8, reward_fraction=fraction) for b in (original, copy))
        assert same(left, right)
    assert original.newest_episodes(9) == copy.newest_episodes(9)
    assert np.array_equal(original.sample(20).rewards, copy.sample(20).rewards)


def test_a_pickle_holds_only_what_was_filled() -> None:
    small, large = Pair(1, 100), Pair(1, 10**6)
    sizes = []
    for pair in (small, large):
        pair.add([0.0], [""])
        file = io.BytesIO()
        save_to_pkl(file, pair.buffer)
        sizes.append(len(file.getvalue()))
    assert sizes[1] - sizes[0] < 30_000  # the index of rewards: 4 bytes for 256 rows
    assert round_trip(large.buffer).buffer_size == 10**6


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (4, 2), (2, 2)])
def test_other_numbers_of_environments_keep_the_rows(before: int, after: int) -> None:
    pair = random_pair(5, before, 240 // before, steps=150 // before)
    pair.buffer.resize_envs(after)
    old = pair.model
    by_tag = {old.rows[env][i].tag: (env, i) for env in range(before) for i in old.stored(env)}
    assert pair.buffer.n_rows == len(by_tag) < 240
    assert (pair.buffer.n_envs, pair.buffer.buffer_size) == (after, 240 // after)
    seen = set()
    for fraction in (0.0, 1.0):
        samples = pair.buffer.sample_sequences(600, 6, reward_fraction=fraction)
        origins = [by_tag[int(tag)] for tag in samples.observations["a"][:, 0, 0].tolist()]
        seen.update(origins)
        env_index, start = (np.array(x) for x in zip(*origins, strict=True))
        moved = samples._replace(rows=samples.rows._replace(env_index=env_index, start=start))
        check_against_model(moved, old, 6)
    assert len({env for env, _ in seen}) == before
    pair.model = Model(after, 240 // after)
    pair.add([0.0] * after, ["terminated"] * after)  # what was under way was cut: every environment begins anew
    newest = pair.buffer.newest_episodes(after)
    assert sorted((env, length) for env, _, length in newest) == [(env, 2) for env in range(after)]


def test_resizing_drops_the_oldest_rows_where_a_ring_overflows() -> None:
    pair = Pair(1, 20)
    pair.add_trajectory(0, [0.0] * 3, terminated=True)
    pair.add_trajectory(0, [0.0] * 14, terminated=True)  # 15 rows, but a ring of two has only 10
    pair.buffer.resize_envs(2)
    samples = pair.buffer.sample_sequences(500, 1)
    assert set(samples.observations["a"][:, 0, 0].int().tolist()) == {1, 2, 3, 4, *range(10, 20)}
    assert len(pair.buffer.newest_episodes(5)) == 1


def test_resizing_prefers_the_newest_rows() -> None:
    pair = Pair(1, 20)
    for _ in range(4):
        pair.add_trajectory(0, [0.0] * 4, terminated=True)  # the numbers 1 to 5, 6 to 10, 11 to 15, 16 to 20
    pair.buffer.resize_envs(3)  # 6 rows each: the fourth episode overwrites most of the first
    samples = pair.buffer.sample_sequences(500, 1)
    assert set(samples.observations["a"][:, 0, 0].int().tolist()) == set(range(5, 21))
    assert pair.buffer.newest_episodes(9)[0] == (0, 5, 5)


def simple_buffer(space: spaces.Space, size: int = 40, **kwargs: Any) -> SequenceReplayBuffer:
    return SequenceReplayBuffer(size, space, spaces.Discrete(4), device="cpu", **kwargs)


def add_one(buffer: SequenceReplayBuffer, observation: Any, **kwargs: Any) -> None:
    buffer.add(observation, observation, np.zeros(1), np.ones(1), np.zeros(1, bool), [{}], **kwargs)


SPACES = [
    (spaces.Box(-1, 1, (4,), np.float32), 16, th.float32),
    (spaces.Box(-1, 1, (2, 2), np.float64), 32, th.float64),
    (spaces.Box(0, 255, (3, 8, 8), np.uint8), 192, th.uint8),
    (spaces.Box(0, 1, (3, 7), np.int8), 3, th.int8),
    (spaces.Box(0, 1, (9,), np.float32), 36, th.float32),
    (spaces.MultiBinary((4, 5)), 3, th.int8),
    (spaces.Discrete(7), 8, th.int64),
    (spaces.MultiDiscrete([3, 4]), 16, th.int64),
]


@pytest.mark.parametrize(("space", "nbytes", "dtype"), SPACES)
def test_each_space_is_stored_in_its_own_size_and_read_in_its_own_dtype(
    space: spaces.Space, nbytes: int, dtype: th.dtype
) -> None:
    space.seed(0)
    buffer = simple_buffer(space, size=512)
    sampled = [space.sample() for _ in range(300)]
    for observation in sampled:
        add_one(buffer, np.asarray(observation)[None])
    read = buffer.read_rows(0, 0, 300).observations
    assert isinstance(read, th.Tensor) and read.dtype == dtype
    assert np.array_equal(read[0].numpy().squeeze(), np.array(sampled).squeeze())
    assert buffer.nbytes == 512 * (nbytes + 8 + 13) + 8


def test_nbytes_is_what_gets_allocated_and_what_the_docs_say() -> None:
    buffer = SequenceReplayBuffer(
        1000,
        spaces.Box(0, 1, (206,), np.float32),
        spaces.Discrete(8),
        n_envs=4,
        memory_size=512,
        mask_shape=8,
        binary=True,
    )
    assert buffer.nbytes == 1000 * 1072 + 4 * 4
    assert sum(column.data.nbytes for column in buffer._columns()) == 0  # nothing before the first row
    add = (np.zeros((4, 206)), np.zeros((4, 206)), np.zeros(4), np.zeros(4), np.zeros(4), [{}] * 4)
    buffer.add(*add, masks=np.ones((4, 8)))
    assert sum(column.data.nbytes for column in buffer._columns()) == 1000 * 1072


def test_a_buffer_that_does_not_fit_is_refused_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=10**6))
    buffer = simple_buffer(BOX, size=10**6)
    with pytest.raises(MemoryError, match=r"0\.03 GB \(1,000,000 rows of 29 bytes\).* 0\.00 GB are free.*34,\d+ fit"):
        add_one(buffer, np.zeros((1, 2)))
    assert buffer.size() == 0
    add_one(simple_buffer(BOX, size=30_000), np.zeros((1, 2)))


def test_packing_refuses_what_is_not_binary_and_stores_nothing_of_it() -> None:
    buffer = simple_buffer(BITS, binary=True)
    add_one(buffer, np.ones((1, 3, 5)))
    wrong = np.zeros((1, 3, 5))
    wrong[0, 1, 2] = 0.5
    with pytest.raises(ValueError, match=r"observation is stored as bits.*\(1, 2\) is 0\.5.*binary=False"):
        add_one(buffer, wrong)
    with pytest.raises(ValueError, match="stored as bits"):
        buffer.add(np.ones((1, 3, 5)), wrong, np.zeros(1), np.ones(1), np.ones(1, bool), [{}])
    with pytest.raises(ValueError, match="stored as bits"):
        add_one(buffer, np.full((1, 3, 5), np.nan))
    assert buffer.n_rows == 1
    add_one(buffer, np.full((1, 3, 5), 0.9999999))  # as it comes back from VecNormalize
    assert buffer.read_rows(0, 1, 1).observations.unique().tolist() == [1.0]


def test_bad_input_says_what_was_expected() -> None:
    with pytest.raises(ValueError, match="optimize_memory_usage=False"):
        simple_buffer(BOX, optimize_memory_usage=True)
    with pytest.raises(ValueError, match="raise buffer_size"):
        simple_buffer(BOX, size=5, n_envs=4)
    with pytest.raises(ValueError, match="binary=True needs"):
        simple_buffer(BOX, binary=True)
    with pytest.raises(ValueError, match="'auto'"):
        simple_buffer(BOX, binary="yes")
    with pytest.raises(ValueError, match="floating memory_dtype"):
        simple_buffer(BOX, memory_dtype=np.int8)
    with pytest.raises(ValueError, match="mask_shape must be"):
        simple_buffer(BOX, mask_shape=0)
    with pytest.raises(ValueError, match="needs masks"):
        add_one(simple_buffer(BOX, mask_shape=3), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="mask_shape=None"):
        add_one(simple_buffer(BOX), np.zeros((1, 2)), masks=np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"observation has shape \(1, 3\), but \(1, 2\) was expected"):
        add_one(simple_buffer(BOX), np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"memory has shape \(1, 3\), but \(1, 2\) was expected"):
        add_one(simple_buffer(BOX, memory_size=2), np.zeros((1, 2)), memory=np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"dictionary with the keys \['a'\]"):
        add_one(simple_buffer(spaces.Dict({"a": BOX})), np.zeros((1, 2)))
    buffer = simple_buffer(BOX)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    with pytest.raises(ValueError, match="at least one action"):
        buffer.add_trajectory(np.zeros((1, 2)), np.zeros(0), np.zeros(0), True)
    with pytest.raises(ValueError, match=r"observation has shape \(3, 2\), but \(4, 2\) was expected"):
        buffer.add_trajectory(np.zeros((3, 2)), np.zeros(3), np.zeros(3), True)
    buffer.add_trajectory(np.zeros((4, 2)), np.zeros(3), np.zeros(3), True)
    buffer.add_trajectory(np.zeros((4, 2)), np.zeros(3), np.zeros(3), True)
    for where in [(0, 0, 5), (0, -1, 1), (0, 8, 1), (1, 0, 1), (0, 0, 0)]:
        with pytest.raises(ValueError, match="not stored, or not of one episode"):
            buffer.read_rows(*where)
    for fraction in ("reward_fraction", "terminal_fraction"):
        with pytest.raises(ValueError, match=r"terminal_fraction in \[0, 1\]"):
            buffer.sample_sequences(1, 1, **{fraction: 1.5})


def test_memory_beyond_float16_saturates_instead_of_becoming_infinite() -> None:
    buffer = simple_buffer(BOX, memory_size=3)
    add_one(buffer, np.zeros((1, 2)), memory=np.array([[1e6, -1e6, 0.5]], dtype=np.float32))
    assert buffer.sample_sequences(1, 1).memory.tolist() == [[65504.0, -65504.0, 0.5]]


def test_the_buffer_copies_what_it_is_given() -> None:
    buffer = simple_buffer(BOX)
    observation, reward = np.ones((1, 2), np.float32), np.ones(1, np.float32)
    buffer.add(observation, observation, np.zeros(1), reward, np.zeros(1), [{}])
    observation[:], reward[:] = 7, 7
    buffer.add(observation, observation, np.zeros(1), reward, np.zeros(1), [{}])
    rows = buffer.read_rows(0, 0, 2)
    assert rows.observations[0, 0].tolist() == [1, 1] and rows.rewards[0].tolist() == [0, 1]
    rows.observations.zero_()
    assert buffer.read_rows(0, 0, 1).observations.tolist() == [[[1, 1]]]


def test_vec_normalize_applies_when_sampling_and_leaves_padding_zero() -> None:
    env = VecNormalize(make_vec_env("CartPole-v1"), clip_obs=100.0, clip_reward=100.0)
    env.obs_rms.mean, env.obs_rms.var, env.ret_rms.var = np.full(4, 2.0), np.full(4, 4.0), np.float64(25.0)
    buffer = SequenceReplayBuffer(30, env.observation_space, env.action_space, device="cpu")
    observations = np.arange(12, dtype=np.float32).reshape(3, 4)
    buffer.add_trajectory(observations, np.array([1, 0]), np.array([5.0, 10.0]), terminated=True)
    samples = buffer.sample_sequences(2, 5, env)
    assert samples.observations.dtype == samples.rewards.dtype == th.float32
    np.testing.assert_allclose(samples.observations[0, :3], (observations - 2) / 2, rtol=1e-6)
    np.testing.assert_allclose(samples.rewards[0], [0, 1, 2, 0, 0], rtol=1e-6)
    assert not samples.observations[:, 3:].any()
    np.testing.assert_allclose(buffer.read_rows(0, 1, 2, env).rewards, [[1, 2]], rtol=1e-6)
    single = buffer.sample(50, env)
    assert set(single.rewards.round(decimals=4)[:, 0].tolist()) == {1.0, 2.0}
    np.testing.assert_allclose(single.next_observations - single.observations, 2.0, rtol=1e-5)
    assert buffer.sample_sequences(2, 5).rewards[0].tolist() == [0, 5, 10, 0, 0]


def test_seeds_decide_the_samples() -> None:
    def draw(seed: int | None, global_seed: int) -> list[int]:
        np.random.seed(global_seed)  # as SB3's set_random_seed does
        buffer = simple_buffer(BOX)
        if seed is not None:
            buffer.seed(seed)
        buffer.add_trajectory(np.zeros((31, 2)), np.zeros(30), np.zeros(30), True)
        return buffer.sample_sequences(20, 2).rows.start.tolist()

    assert draw(3, 0) == draw(3, 1) != draw(4, 0)
    assert draw(None, 0) == draw(None, 0) != draw(None, 1)


def test_it_is_what_sb3_loads_as_a_replay_buffer() -> None:
    buffer = simple_buffer(BOX)
    assert isinstance(buffer, ReplayBuffer) and buffer.handle_timeout_termination
    assert (buffer.size(), buffer.pos, buffer.full, buffer.buffer_size) == (0, 0, False, 40)
    buffer.add_trajectory(np.zeros((50, 2)), np.zeros(49), np.zeros(49), True)
    assert (buffer.size(), buffer.pos, buffer.full) == (40, 10, True)


@pytest.mark.skipif(not th.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("storage", ["cpu", "cuda"])
def test_samples_and_memories_cross_to_a_gpu_and_back(storage: str) -> None:
    pair = random_pair(2, 2, 30, 50, device=storage)
    pair.check_sequences(50, 4)
    pair.buffer.device = th.device("cuda")
    samples = pair.buffer.sample_sequences(8, 4)
    assert samples.rewards.device.type == samples.memory.device.type == "cuda"
    pair.buffer.update_memory(samples.rows, th.full((8, 4, 3), 5.0, device="cuda"))
    again = pair.buffer.read_rows(int(samples.rows.env_index[0]), int(samples.rows.start[0]), 1)
    assert again.memory.tolist() == [[5.0] * 3]
