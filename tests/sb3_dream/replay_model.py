"""A model of the replay buffer that is nothing but a list of rows, and a pair that feeds both with the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_dream.replay import SequenceReplayBuffer, SequenceSamples

BOX = spaces.Box(-1e6, 1e6, (2,), np.float32)
BITS = spaces.Box(0, 1, (3, 5), np.float32)


@dataclass
class Row:
    """What the model knows of one row; ``tag`` stands for the observation, the action, the memory and the mask."""

    tag: int
    acted: bool
    reward: float
    first: bool
    last: bool
    terminated: bool
    sequence: int
    memory: float


class Model:
    """The same buffer as nothing but a list of rows for each environment, of which the last ``capacity`` count."""

    def __init__(self, n_envs: int, capacity: int) -> None:
        self.capacity = capacity
        self.rows: list[list[Row]] = [[] for _ in range(n_envs)]
        self.pending = [0.0] * n_envs
        self.fresh = [True] * n_envs
        self.sequence = list(range(n_envs))  # the number of the sequence that each environment's next row belongs to
        self.sequences = n_envs

    def new_sequence(self, env: int) -> None:
        self.sequence[env] = self.sequences
        self.sequences += 1

    def stored(self, env: int) -> range:
        return range(max(0, len(self.rows[env]) - self.capacity), len(self.rows[env]))

    def stretch(self, env: int, row: int) -> range:
        """The stored part of the sequence of a row."""
        sequence = self.rows[env][row].sequence
        same = [i for i in self.stored(env) if self.rows[env][i].sequence == sequence]
        return range(same[0], same[-1] + 1)

    def complete_episodes(self) -> list[tuple[int, int, int]]:
        found = []
        for env, rows in enumerate(self.rows):
            for i in self.stored(env):
                stretch = self.stretch(env, i)
                if i == stretch[-1] and rows[i].last and rows[stretch[0]].first:
                    found.append((len(rows) - i, env, stretch[0], len(stretch)))
        return [episode[1:] for episode in sorted(found)]


def observation_of(tag: int) -> np.ndarray:
    return np.array([tag, -tag], dtype=np.float32)


def bits_of(tag: int) -> np.ndarray:
    return np.array([tag >> i & 1 for i in range(15)], dtype=np.float32).reshape(3, 5)


def mask_of(tag: int) -> np.ndarray:
    return np.array([(tag + i) % 3 == 0 for i in range(9)])


class Pair:
    """The buffer and its model, fed with the same rows; every row has a number of its own."""

    def __init__(self, n_envs: int, capacity: int, device: str = "cpu") -> None:
        self.buffer = SequenceReplayBuffer(
            n_envs * capacity,
            spaces.Dict({"a": BOX, "b": BITS}),
            spaces.Discrete(10**6),
            device="cpu",
            n_envs=n_envs,
            memory_size=3,
            memory_dtype=np.float32,
            mask_shape=9,
            binary=True,
            storage_device=device,
        )
        self.buffer.seed(0)
        self.model = Model(n_envs, capacity)
        self.tags = 0

    @property
    def n_envs(self) -> int:
        return len(self.model.rows)

    def tag(self, count: int) -> list[int]:
        self.tags += count
        return list(range(self.tags - count + 1, self.tags + 1))

    @staticmethod
    def observations(tags: list[int]) -> dict[str, np.ndarray]:
        return {"a": np.stack([observation_of(t) for t in tags]), "b": np.stack([bits_of(t) for t in tags])}

    @staticmethod
    def memories(tags: list[int]) -> np.ndarray:
        return np.repeat(np.array(tags, dtype=np.float32)[:, None], 3, axis=1)

    def add(self, rewards: list[float], endings: list[str]) -> None:
        """:param endings: for each environment "" or "terminated" or "truncated\""""
        tags, last_tags = self.tag(self.n_envs), self.tag(self.n_envs)
        self.buffer.add(
            self.observations(tags),
            self.observations(last_tags),
            np.array(tags),
            np.array(rewards),
            np.array([bool(e) for e in endings]),
            [{"TimeLimit.truncated": True} if e == "truncated" else {} for e in endings],
            memory=self.memories(tags),
            last_memory=self.memories(last_tags),
            masks=np.stack([mask_of(t) for t in tags]),
            last_masks=np.stack([mask_of(t) for t in last_tags]),
        )
        m = self.model
        for i, (tag, last, reward, end) in enumerate(zip(tags, last_tags, rewards, endings, strict=True)):
            m.rows[i].append(Row(tag, True, m.pending[i], m.fresh[i], False, False, m.sequence[i], tag))
            m.pending[i], m.fresh[i] = reward, False
            if end:
                m.rows[i].append(Row(last, False, reward, False, True, end == "terminated", m.sequence[i], last))
                m.pending[i], m.fresh[i] = 0.0, True
                m.new_sequence(i)

    def cut(self) -> None:
        self.buffer.truncate_last_trajectory()
        for i in range(self.n_envs):
            self.model.pending[i], self.model.fresh[i] = 0.0, True
            self.model.new_sequence(i)

    def add_trajectory(self, env: int, rewards: list[float], terminated: bool) -> None:
        tags = self.tag(len(rewards) + 1)
        masks = np.stack([mask_of(t) for t in tags])
        self.buffer.add_trajectory(
            self.observations(tags), np.array(tags[:-1]), np.array(rewards), terminated, masks, env
        )
        m = self.model
        m.new_sequence(env)
        for i, tag in enumerate(tags):
            end = i == len(rewards)
            reward = 0.0 if i == 0 else rewards[i - 1]
            m.rows[env].append(Row(tag, not end, reward, i == 0, end, end and terminated, m.sequence[env], 0.0))
        m.new_sequence(env)

    def check_sequences(
        self, batch_size: int, length: int, reward_fraction: float = 0.0, terminal_fraction: float = 0.0
    ) -> SequenceSamples:
        samples = self.buffer.sample_sequences(batch_size, length, None, reward_fraction, terminal_fraction)
        check_against_model(samples, self.model, length)
        return samples


def check_against_model(samples: SequenceSamples, model: Model, length: int) -> None:
    assert isinstance(samples.observations, dict) and samples.masks is not None
    a, b = samples.observations["a"].numpy(), samples.observations["b"].numpy()
    assert a.dtype == b.dtype == np.float32 and samples.valid.dtype == samples.masks.dtype == th.bool
    for i, (env, start, real, n_open) in enumerate(zip(*samples.rows, strict=True)):
        assert start in model.stored(env)
        stretch = model.stretch(env, start)
        count = min(length, len(stretch))
        assert stretch[0] <= start <= stretch[-1] + 1 - count
        assert samples.valid[i].tolist() == [True] * count + [False] * (length - count)
        rows = model.rows[env][start : start + count]
        assert np.array_equal(a[i, :count], np.stack([observation_of(r.tag) for r in rows]))
        assert np.array_equal(b[i, :count], np.stack([bits_of(r.tag) for r in rows]))
        assert np.array_equal(samples.masks[i, :count], np.stack([mask_of(r.tag) for r in rows]))
        assert samples.actions[i, :count, 0].tolist() == [r.tag * r.acted for r in rows]
        assert samples.rewards[i, :count].tolist() == [r.reward for r in rows]
        assert samples.is_first[i, :count].tolist() == [r.first for r in rows]
        assert samples.is_last[i, :count].tolist() == [r.last for r in rows]
        assert samples.terminated[i, :count].tolist() == [r.terminated for r in rows]
        assert (real, n_open) == (count, count - rows[-1].terminated)
        assert samples.memory[i].tolist() == [rows[0].memory] * 3
        assert not a[i, count:].any() and not b[i, count:].any() and not samples.actions[i, count:].any()
        assert not samples.rewards[i, count:].any() and samples.masks[i, count:].all()
        for flags in (samples.is_first, samples.is_last, samples.terminated):
            assert not flags[i, count:].any()


def random_pair(seed: int, n_envs: int, capacity: int, steps: int, end: float = 0.15, device: str = "cpu") -> Pair:
    rng = np.random.default_rng(seed)
    pair = Pair(n_envs, capacity, device)
    for _ in range(steps):
        kinds = rng.choice(["", "terminated", "truncated"], size=n_envs, p=[1 - end, end / 2, end / 2])
        pair.add(rng.choice([0.0, 0.0, 0.0, 1.5], size=n_envs).tolist(), kinds.tolist())
    return pair
