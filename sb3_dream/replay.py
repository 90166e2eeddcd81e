"""``SequenceReplayBuffer``: SB3's replay buffer, storing whole episodes and returning sequences of them."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from numpy.typing import DTypeLike
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize

from sb3_dream.nn.transfers import to_device
from sb3_dream.replay_columns import Column
from sb3_dream.replay_draws import draw_before_rewards, draw_edges, draw_sequences
from sb3_dream.replay_rings import Rings
from sb3_dream.replay_rows import FIRST, LAST, TERMINATED, Observations, Rows
from sb3_dream.replay_samples import SequenceRows, SequenceSamples, read_sequences, read_transitions
from sb3_dream.replay_storage import NonZeroIndex, check_free_memory

__all__ = ["SequenceReplayBuffer", "SequenceRows", "SequenceSamples"]


class SequenceReplayBuffer(ReplayBuffer):
    """
    Replay of sequences. Each environment has a ring of ``buffer_size // n_envs`` rows with a write head of its own;
    time ``t`` of an episode is one row: the observation, the action taken there, the reward received on arrival
    there, whether it is the first, the last or a terminal one, the recurrent memory that the agent had before it
    (the stored state of Kapturowski et al. 2019, "Recurrent Experience Replay in Distributed Reinforcement
    Learning", section 3) and the actions allowed there. The last observation of an episode is a row of its own, so a
    finished episode of ``T`` actions takes ``T + 1`` rows. A sequence never crosses an episode or a write head.

    **Memory.** Nothing is allocated before the first row is added. Then ``buffer_size`` rows are, each of ::

        observation + action + 2 * memory_size + ceil(mask_shape / 8) + 13 bytes

    (4 for the reward, 1 for the flags, 8 for the place in the episode), and 4 bytes for every 256 rows. An
    observation takes the bytes of its own dtype, or ``ceil(size / 8)`` where it is packed to bits; an action of
    ``Discrete`` takes 8, of ``Box`` 4 for each dimension; 2 is the itemsize of ``memory_dtype``. For example, 206
    binary floats, a discrete action out of 8 with masks and a memory of 512 take 26 + 8 + 1,024 + 1 + 13 = 1,072
    bytes, 1.07 GB for a million rows; unpacked, the observation alone would take 824. :attr:`nbytes` is the exact
    total, and a buffer that exceeds the free memory is refused.

    All randomness comes from the buffer's own generator, which starts from NumPy's global one (the one that SB3's
    ``seed`` sets) and is pickled with the buffer.

    :param buffer_size: rows of all environments together
    :param observation_space: observation space; a ``Dict`` is stored key by key
    :param action_space: action space
    :param device: device of the returned tensors
    :param n_envs: number of environments
    :param optimize_memory_usage: must be False: each observation is stored once in any case
    :param memory_size: length of the recurrent memory stored with each row
    :param memory_dtype: floating dtype in which it is stored; values beyond its range become its largest
    :param mask_shape: number of actions in an action mask, None where the environment has no masks
    :param binary: ``"auto"`` packs ``MultiBinary`` and integer ``Box`` observations within [0, 1] to bits; True packs
        float boxes within [0, 1] as well, for observations that are only ever 0 or 1 (read back as float32; adding
        another value raises a ValueError); False packs nothing
    :param storage_device: where observations, actions, memories and masks are stored, ``"cpu"``, ``"cuda"`` ... With
        those of an update on the GPU that makes it, nothing but the places of rows, rewards and flags is copied there
    :raises ValueError: for arguments that do not fit together
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        memory_size: int = 0,
        memory_dtype: DTypeLike = np.float16,
        mask_shape: int | None = None,
        binary: bool | Literal["auto"] = "auto",
        storage_device: th.device | str = "cpu",
    ) -> None:
        if optimize_memory_usage:
            raise ValueError(
                "SequenceReplayBuffer stores each observation only once in any case: leave optimize_memory_usage=False."
            )
        # Not ReplayBuffer's constructor: it allocates arrays of transitions.
        super(ReplayBuffer, self).__init__(buffer_size, observation_space, action_space, device, n_envs)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = True
        self.total_size = buffer_size
        self.memory_size = memory_size
        self.mask_shape = mask_shape
        self._rows = Rows(
            observation_space,
            self.action_dim,
            self._maybe_cast_dtype(action_space.dtype),
            memory_size,
            memory_dtype,
            mask_shape,
            binary,
            get_device(storage_device),
        )
        self.rng = np.random.default_rng(np.random.randint(2**31))
        self._start_over(n_envs)

    def _start_over(self, n_envs: int) -> None:
        """Forget all rows and free their memory."""
        self._rows.allocate(0)
        self._use(Rings(n_envs, self.total_size // n_envs))
        self._allocated = False

    def _use(self, rings: Rings) -> None:
        self._rings, self.n_envs, self.buffer_size = rings, rings.n_rings, rings.capacity
        # The reward of the newest action and whether an episode is about to begin: known before the row they belong to.
        self._pending_reward = np.zeros(self.n_envs, dtype=np.float32)
        self._fresh = np.ones(self.n_envs, dtype=bool)
        self._refreshed: np.ndarray | None = None  # rows with another memory than when they were saved, if they were
        self._update_position()

    def _columns(self) -> list[Column]:
        return [*self._rows.columns, self._rings.age, self._rings.left]

    def _allocate(self) -> None:
        rows, by_device = self.n_envs * self.buffer_size, Counter[th.device]()
        for column in self._columns():
            by_device[column.device] += rows * column.row_nbytes
        for device, nbytes in by_device.items():
            check_free_memory(nbytes, rows, device)
        self._rows.allocate(rows)
        self._rings.allocate()
        self._allocated = True

    @property
    def nbytes(self) -> int:
        """Bytes that the buffer takes once the first row is added."""
        rows = self.n_envs * self.buffer_size
        return rows * sum(column.row_nbytes for column in self._columns()) + NonZeroIndex.nbytes(rows)

    @property
    def n_rows(self) -> int:
        """Stored rows of all environments together."""
        return int(self._rings.sizes.sum())

    @property
    def n_rewarded(self) -> int:
        """Stored rows whose reward is not zero."""
        return self._rows.rewarded.total

    def size(self) -> int:
        """
        As in SB3, the size for one environment: the number of rows in the fullest ring, at most ``buffer_size``.
        :attr:`n_rows` counts all of them.
        """
        return super().size()

    def _update_position(self) -> None:
        head = int(self._rings.heads.max())
        self.pos, self.full = head % self.buffer_size, head >= self.buffer_size

    def seed(self, seed: int | None = None) -> None:
        """Restart the buffer's random generator from a seed."""
        self.rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """Forget all rows and free their memory; the random generator goes on."""
        self._start_over(self.n_envs)

    def __getstate__(self) -> dict[str, Any]:
        # Columns pickle empty: only the part of the rings that has ever been filled is written.
        slots = self._filled_slots()
        return {**self.__dict__, "_refreshed": None, "_filled": [column.stored(slots) for column in self._columns()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        filled = state.pop("_filled")
        self.__dict__.update(state)
        if self._allocated:
            rewarded = self._rows.rewarded
            self._allocate()
            self._rows.rewarded = rewarded
            for column, values in zip(self._columns(), filled, strict=True):
                column.write(self._filled_slots(), values)

    def _filled_slots(self) -> np.ndarray:
        used = np.arange(self._rings.sizes.max())
        return self._rings.slots(np.arange(self.n_envs)[:, None], used).flatten()

    # ------------------------------------------------------------------ writing

    def add(
        self,
        obs: Observations,
        next_obs: Observations,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
        *,
        memory: np.ndarray | th.Tensor | None = None,
        masks: np.ndarray | None = None,
        last_memory: np.ndarray | th.Tensor | None = None,
        last_masks: np.ndarray | None = None,
    ) -> None:
        """
        Add one step of every environment: one row each, and a second one where an episode ended.

        :param obs: observations before the step, ``(n_envs, *shape)``
        :param next_obs: observations after it; where ``done``, the true last one of the episode. Only those are used
        :param action: actions, ``(n_envs, action_dim)``
        :param reward: rewards, ``(n_envs,)``
        :param done: whether the episode ended, ``(n_envs,)``
        :param infos: one dictionary for each environment; ``"TimeLimit.truncated"`` marks an end that is no termination
        :param memory: recurrent memory before ``obs``, ``(n_envs, memory_size)``, on any device; None for zeros
        :param masks: actions allowed at ``obs``, ``(n_envs, mask_shape)``
        :param last_memory: recurrent memory before ``next_obs``, used where ``done``; None for zeros
        :param last_masks: actions allowed at ``next_obs``, used where ``done``; None for "all of them"
        :raises ValueError: if something has a wrong shape or cannot be stored; nothing is stored then
        :raises MemoryError: at the first row, if the buffer does not fit into the free memory
        """
        self._rows.require_masks(masks)
        n_envs = self.n_envs
        reward = np.array(self._rows.reward.encode(reward, n_envs))
        ended = np.flatnonzero(done)
        rows = self._rows.encode(n_envs, obs, action, memory, masks)
        if ended.size:
            if isinstance(next_obs, dict):
                last_obs: Observations = {key: np.asarray(value)[ended] for key, value in next_obs.items()}
            else:
                last_obs = np.asarray(next_obs)[ended]
            if last_memory is not None:
                last_memory = th.as_tensor(last_memory)
                last_memory = last_memory[to_device(ended, last_memory.device)]
            last_masks = None if last_masks is None else np.asarray(last_masks)[ended]
            last_rows = self._rows.encode(ended.size, last_obs, None, last_memory, last_masks)
            truncated = [bool(infos[i].get("TimeLimit.truncated", False)) for i in ended]
            last_flags = np.where(truncated, LAST, LAST | TERMINATED)

        if not self._allocated:
            self._allocate()
        self._rows.write(self._rings.append(np.arange(n_envs)), rows, self._pending_reward, self._fresh * FIRST)
        self._pending_reward = reward
        self._fresh[:] = False
        if ended.size:
            self._rows.write(self._rings.append(ended), last_rows, reward[ended], last_flags)
            self._rings.close(ended)
            self._pending_reward[ended] = 0
            self._fresh[ended] = True
        self._update_position()

    def add_trajectory(
        self,
        observations: Observations,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: bool,
        masks: np.ndarray | None = None,
        env_index: int = 0,
    ) -> None:
        """
        Add a whole episode, for instance a demonstration. Its recurrent memory is stored as zeros. An episode that the
        environment is just collecting is split in two sequences around it; nothing of it is lost.

        :param observations: ``(T + 1, *shape)``, or a dictionary of those, from the first to the last
        :param actions: ``(T, action_dim)``, as the buffer stores them (SB3 scales the actions of a ``Box`` to [-1, 1])
        :param rewards: ``(T,)``, the reward of each action
        :param terminated: whether the last observation is terminal, not merely where a time limit struck
        :param masks: the actions allowed at each observation, ``(T + 1, mask_shape)``
        :param env_index: the environment in whose ring it is stored
        :raises ValueError: if something has a wrong shape or cannot be stored; nothing is stored then
        """
        self._rows.require_masks(masks)
        steps = len(rewards)
        if steps < 1 or not 0 <= env_index < self.n_envs:
            raise ValueError(
                f"A trajectory needs at least one action and an env_index below {self.n_envs}, got {steps} actions and "
                f"env_index={env_index}."
            )
        actions = self._rows.action.encode(actions, steps)
        actions = np.concatenate([actions, np.zeros_like(actions[:1])])
        values = self._rows.encode(steps + 1, observations, actions, None, masks)
        arrivals = np.concatenate([[0], self._rows.reward.encode(rewards, steps)]).astype(np.float32)
        flags = np.zeros(steps + 1, dtype=np.uint8)
        flags[0], flags[-1] = FIRST, LAST | (TERMINATED if terminated else 0)

        if not self._allocated:
            self._allocate()
        slots = self._rings.append_sequence(env_index, steps + 1)
        kept = slice(steps + 1 - len(slots), None)  # of a trajectory that is longer than its ring, the end
        values = [(column, value[kept] if np.ndim(value) else value) for column, value in values]
        self._rows.write(slots, values, arrivals[kept], flags[kept])
        self._update_position()

    def truncate_last_trajectory(self) -> None:
        """
        Cut the unfinished episodes: the next row of every environment begins a new one. To be called when the
        environments are reset in the middle of an episode. What is stored stays; the reward of the newest action,
        whose outcome was not stored, is dropped.
        """
        self._rings.close(np.arange(self.n_envs))
        self._pending_reward[:] = 0
        self._fresh[:] = True

    def resize_envs(self, n_envs: int) -> None:
        """
        Go on with another number of environments. Unfinished episodes are cut, and the stored sequences are dealt to
        the new rings, the oldest first; only what does not fit into the new rings is dropped, the oldest rows of a ring
        first. Absolute row numbers from before do not hold any more.

        :param n_envs: new number of environments
        """
        if not self._allocated:
            self._start_over(n_envs)
            return
        self.truncate_last_trajectory()
        rings, slots, origins = self._rings.dealt_to(Rings(n_envs, self.total_size // n_envs))
        self._rows.rearrange(n_envs * rings.capacity, slots, origins)
        self._use(rings)

    def update_memory(self, rows: SequenceRows, memory: th.Tensor | np.ndarray) -> None:
        """
        Replace stored memories by fresher ones. Rows that have been overwritten since they were sampled are skipped.

        :param rows: ``rows`` of the samples
        :param memory: recurrent memory before each observation of the samples, ``(B, T, memory_size)``; of rows that
            are not real, anything
        """
        memory = th.as_tensor(memory).detach()
        count, length = len(rows.start), memory.shape[1] if memory.ndim == 3 else 0
        if memory.shape != (count, length, self.memory_size) or length < rows.length.max(initial=0):
            raise ValueError(
                f"Replay buffer: expected memory of shape (B, T, {self.memory_size}) with B={count} and T of at least "
                f"{rows.length.max(initial=0)}, got {tuple(memory.shape)}."
            )
        rings, steps = rows.env_index[:, None], np.arange(length)
        numbers, heads = rows.start[:, None] + steps, self._rings.heads[rings]
        keep = (steps < rows.length[:, None]) & (numbers >= heads - self.buffer_size) & (numbers < heads)
        # of a row in several sequences the last one counts, which nothing but NumPy's own writing would promise
        slots, last = np.unique(self._rings.slots(rings, numbers)[keep][::-1], return_index=True)
        kept = memory.flatten(0, 1)[to_device(np.flatnonzero(keep)[::-1][last], memory.device)]
        self._rows.memory.write(slots, self._rows.memory.encode(kept, len(slots)))
        if self._refreshed is not None:
            self._refreshed[slots] = True

    # ------------------------------------------------------------------ reading

    def sample_sequences(
        self,
        batch_size: int,
        length: int,
        env: VecNormalize | None = None,
        reward_fraction: float = 0.0,
        terminal_fraction: float = 0.0,
    ) -> SequenceSamples:
        """
        Draw sequences. A row is drawn, every stored one with the same probability, and the sequence begins there, or
        so much earlier that it ends with the episode; only an episode shorter than ``length`` is padded.

        :param batch_size: number of sequences ``B``
        :param length: rows in each, ``T``
        :param env: normalises observations and rewards, which are stored raw
        :param reward_fraction: probability with which a sequence is drawn around a row whose reward is not zero
            instead, at a random place of the sequence but the first; rare sizes of reward are drawn more often than
            they occur (:func:`~sb3_dream.replay_draws.draw_balanced`, out of eight times as many candidates)
        :param terminal_fraction: probability with which a sequence that is not drawn around a reward is the end of an
            episode that terminated, of each stored one with about the same probability
        :return: the sequences
        :raises ValueError: if the buffer is empty or an argument is out of range
        """
        if batch_size < 1 or length < 1 or not (0.0 <= reward_fraction <= 1.0 and 0.0 <= terminal_fraction <= 1.0):
            raise ValueError(
                "Expected batch_size >= 1, length >= 1, reward_fraction and terminal_fraction in [0, 1], got "
                f"{batch_size}, {length}, {reward_fraction}, {terminal_fraction}."
            )
        self._require_rows()
        drawn = draw_sequences(
            self.rng, self._rings, self._rows, batch_size, length, reward_fraction, terminal_fraction
        )
        return self._read(*drawn, length, env)

    def sample_firsts(self, count: int, env: VecNormalize | None = None) -> SequenceSamples:
        """
        Draw first observations of episodes, each stored one with about the same probability.

        :param count: how many
        :param env: normalises observations and rewards
        :return: sequences of one row; none if no stored row, out of eight times as many drawn, has its beginning stored
        :raises ValueError: if the buffer is empty
        """
        self._require_rows()
        return self._read_single(*draw_edges(self.rng, self._rings, self._rows, FIRST, count), env)

    def sample_before_rewards(self, steps: int, count: int, env: VecNormalize | None = None) -> SequenceSamples:
        """
        Draw rows from which a step with a reward is near.

        :param steps: how far ahead it is at most, in the same episode
        :param count: how many
        :param env: normalises observations and rewards
        :return: sequences of one row, rewards as likely as in :meth:`sample_sequences`, fewer where what was before
            them is no longer stored; none where no reward is
        :raises ValueError: if the buffer is empty
        """
        self._require_rows()
        return self._read_single(*draw_before_rewards(self.rng, self._rings, self._rows, count, steps), env)

    def _read_single(self, rings: np.ndarray, rows: np.ndarray, env: VecNormalize | None) -> SequenceSamples:
        return self._read(rings, rows, np.ones(len(rows), dtype=np.int64), 1, env)

    def _read(
        self, rings: np.ndarray, begins: np.ndarray, counts: np.ndarray, length: int, env: VecNormalize | None
    ) -> SequenceSamples:
        slots = self._rings.slots(rings[:, None], begins[:, None] + np.arange(length))
        return read_sequences(self._rows, slots, counts, rings, begins, env, self.device)

    def _require_rows(self) -> None:
        if not self._allocated:
            raise ValueError("The replay buffer is empty: nothing can be sampled before something is added.")

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """
        Draw single transitions as SB3's other algorithms use them, every stored one with the same probability. Meant
        for inspection and for other learners: it looks at all rows, unlike :meth:`sample_sequences`.

        :param batch_size: number of transitions
        :param env: normalises observations and rewards
        :return: transitions, none across the end of an episode; ``dones`` marks terminations, not time limits
        :raises ValueError: if no transition is stored
        """
        self._require_rows()
        arrivals = self._rings.arrivals()
        if not arrivals.size:
            raise ValueError("The replay buffer holds no transition yet: its sequences have one row each.")
        return self._get_samples(arrivals[self.rng.integers(len(arrivals), size=batch_size)], env)

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> ReplayBufferSamples:
        return read_transitions(self._rows, self._rings.predecessors(batch_inds), batch_inds, env, self.device)

    def newest_episodes(self, n: int) -> list[tuple[int, int, int]]:
        """
        :param n: how many
        :return: up to ``n`` episodes that are stored from their first observation to their last, the newest first:
            environment, absolute number of the first row, number of rows (one more than actions), for :meth:`read_rows`
        """
        found: list[tuple[int, int, int]] = []
        if self._allocated:
            for ring, start, length in self._rings.newest_sequences():
                if len(found) == n:
                    break
                first, last = self._rows.flags.data[self._rings.slots(ring, np.array([start, start + length - 1]))]
                if first & FIRST and last & LAST:
                    found.append((ring, start, length))
        return found

    def read_rows(self, env_index: int, start: int, length: int, env: VecNormalize | None = None) -> SequenceSamples:
        """
        Read one stretch of an episode.

        :param env_index: environment
        :param start: absolute number of the first row
        :param length: number of rows
        :param env: normalises observations and rewards
        :return: a batch of one sequence
        :raises ValueError: if these rows are not stored (any more), or not within one episode
        """
        if 0 <= env_index < self.n_envs and length >= 1:
            head = int(self._rings.heads[env_index])
            if max(0, head - self.buffer_size) <= start < head:
                rings, rows = np.array([env_index]), np.array([start])
                if start + length <= self._rings.bounds(rings, rows)[1][0]:
                    return self._read(rings, rows, np.array([length]), length, env)
        raise ValueError(
            f"Rows {start} to {start + length - 1} of environment {env_index} are not stored, or not of one episode."
        )
