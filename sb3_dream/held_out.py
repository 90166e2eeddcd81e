"""Episodes to judge a world model by: those it has hardly learned from yet, or some played for the purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch.nn.utils.rnn import pad_sequence

from sb3_dream.environments import action_masks
from sb3_dream.policies import DreamPolicy
from sb3_dream.random_streams import RandomStream
from sb3_dream.replay import SequenceReplayBuffer, SequenceRows, SequenceSamples


def newest_episodes(
    replay: SequenceReplayBuffer, rows: int, longest: int = 128, normalizer: VecNormalize | None = None
) -> SequenceSamples | None:
    """
    The newest whole episodes of a replay buffer. With a ``train_ratio`` of R, a row of age A (in environment steps) has
    been trained on about R A / n times, n being the number of stored rows: soon after the beginning, that is hardly.

    :param replay: training's own buffer; nothing of it is changed
    :param rows: to read, about
    :param longest: of a longer episode, so many rows at its end are read
    :param normalizer: normalises observations and rewards
    :return: an episode in each sequence; None while no episode is complete
    """
    pieces, count = [], 0
    for ring, first, length in replay.newest_episodes(max(1, rows // 2)):
        piece = min(length, longest)
        pieces.append(replay.read_rows(ring, first + length - piece, piece, normalizer))
        count += piece
        if count >= rows:
            break
    return _side_by_side(pieces) if pieces else None


def play_episodes(policy: DreamPolicy, env: VecEnv, rows: int, longest: int = 128, seed: int = 0) -> SequenceSamples:
    """
    Play in environments of their own, as training does, and forget it afterwards: no model learns from these episodes.

    :param policy: plays, with sampled actions
    :param env: environments; they are reset first
    :param rows: to collect, about; episodes that are under way then are cut
    :param longest: of a longer episode, so many rows at its end are read
    :param seed: of the sampled actions
    :return: an episode in each sequence
    """
    policy.set_training_mode(False)
    model, n_envs, spec = policy.world_model, env.num_envs, policy.action_spec
    steps = max(2, rows // n_envs)
    replay = SequenceReplayBuffer(
        2 * (steps + 1) * n_envs,
        policy.observation_space,
        policy.action_space,
        n_envs=n_envs,
        memory_size=model.memory_size,
        mask_shape=policy.mask_size,
    )
    stream = RandomStream(policy.device, seed)
    observations, memory = env.reset(), model.initial_memory(n_envs)
    for step in range(steps):
        masks = None if policy.mask_size is None else action_masks(env, spec)
        tensors, _ = policy.obs_to_tensor(observations)  # type: ignore[arg-type]
        allowed = None if masks is None else th.as_tensor(masks, device=policy.device)
        with stream.use(), th.no_grad():
            action, state = policy.act(tensors, memory, allowed)
            after = model.remember(state, spec.encode(action))
        following, rewards, dones, infos = env.step(policy.to_env(action))
        cut = [info.get("TimeLimit.truncated", False) or not dones[i] for i, info in enumerate(infos)]
        replay.add(
            observations,  # type: ignore[arg-type]
            _arrivals(following, dones, infos),
            action.cpu().numpy(),
            rewards,
            dones if step < steps - 1 else np.ones_like(dones),
            [{"TimeLimit.truncated": truncated} for truncated in cut],
            memory=memory.cpu().numpy(),
            last_memory=after.cpu().numpy(),
            masks=masks,
        )
        observations = following
        memory = after.masked_fill(th.as_tensor(dones, device=policy.device)[:, None], 0.0)
    samples = newest_episodes(replay, 2 * rows, longest)
    assert samples is not None
    return samples


def _arrivals(following: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> Any:
    """What the steps led to: where an episode ended, the environment has already replaced it by a first observation."""
    if isinstance(following, dict):
        ends = [info.get("terminal_observation", {}) for info in infos]
        return {
            key: _arrivals(part, dones, [{"terminal_observation": end.get(key)} for end in ends])
            for key, part in following.items()
        }
    arrivals = following.copy()
    for i in np.flatnonzero(dones):
        arrivals[i] = infos[i]["terminal_observation"]
    return arrivals


def _side_by_side(pieces: list[SequenceSamples]) -> SequenceSamples:
    """Batches of one sequence each as one batch, padded behind their ends as the replay buffer pads."""

    def join(tensors: Sequence[th.Tensor], fill: float = 0.0) -> th.Tensor:
        return pad_sequence([tensor[0] for tensor in tensors], batch_first=True, padding_value=fill)

    parts = {name: [getattr(piece, name) for piece in pieces] for name in SequenceSamples._fields}
    observations, masks, memory, rows = (parts.pop(name) for name in ("observations", "masks", "memory", "rows"))
    if isinstance(observations[0], dict):
        joined: Any = {key: join([part[key] for part in observations]) for key in observations[0]}
    else:
        joined = join(observations)
    return SequenceSamples(
        observations=joined,
        masks=None if masks[0] is None else join(masks, 1.0),
        memory=th.cat(memory),
        rows=SequenceRows(*(np.concatenate(part) for part in zip(*rows, strict=True))),
        **{name: join(tensors) for name, tensors in parts.items()},
    )
