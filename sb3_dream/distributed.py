"""Training in several processes: one model, but environments, replay and random numbers of each process's own.

``torchrun`` starts the processes (ranks). Each collects and samples for itself; in every update gradients are averaged
over the ranks (:mod:`sb3_dream.nn.collectives`), so that all keep the same parameters and optimiser states without
ever sending them. ``N`` ranks are one process with ``N`` times the environments, ``batch_size``, ``buffer_size`` and
``imagination_starts``. What an algorithm has to agree on besides is here; alone, a process agrees with itself at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch as th
import torch.distributed as dist
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecNormalize

from sb3_dream.nn.collectives import add_up, gathered, of_rank, rank, world_size

if TYPE_CHECKING:
    from sb3_dream.resume import ResumableAlgorithm

#: How long a rank waits for another, which may be evaluating or saving.
TIMEOUT = timedelta(minutes=30)
#: What must be the same on all ranks, or they would wait for each other for ever.
_SETTINGS = (
    *("n_envs", "train_freq", "train_ratio", "gradient_steps", "overlap_updates", "learning_starts"),
    *("model_warmup", "policy_delay", "policy_delay_end", "gamma_rise", "batch_size", "sequence_length"),
    *("imagination_horizon", "n_epochs", "n_minibatches", "actor_gradient"),
)
_COUNTERS = ("num_timesteps", "_n_updates", "_owed_updates")
#: What all ranks together have seen, for each of ``VecNormalize``'s statistics: count, sums, sums of squares.
_AGREED: WeakKeyDictionary[VecNormalize, dict[str, th.Tensor]] = WeakKeyDictionary()


@contextmanager
def launched_ranks() -> Iterator[None]:
    """
    In this block the processes that ``torchrun``, or another launcher that sets its environment variables, started
    are one training. Rank 0 alone prints. Nothing happens in a process that was started alone.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if th.cuda.is_available():
        th.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % th.cuda.device_count())
    dist.init_process_group(timeout=TIMEOUT)
    with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if rank() == 0 else nowhere):
        yield
    dist.destroy_process_group()


def start_together(model: ResumableAlgorithm, total_timesteps: int) -> int:
    """
    Bring all ranks to the parameters, optimisers, counters and normalisers of the one that has come farthest, rank 0 if
    all have come as far. A rank whose random streams are another's, since it was made with the same seed or loaded from
    the same file, gets streams of its own.

    :param model: about to learn
    :param total_timesteps: that it is to learn for
    :return: the same of the rank that all go on from
    :raises ValueError: if the ranks have different settings, or ones that cannot be kept in step
    """
    if world_size() == 1:
        return total_timesteps
    _require_same_settings(model)
    steps = gathered(model.num_timesteps)
    source = steps.index(max(steps))
    told: Any = None
    if rank() == source:
        file = io.BytesIO()
        th.save(model.get_parameters(), file)
        counters = {name: getattr(model, name) for name in _COUNTERS}
        told = file.getvalue(), counters, _statistics(model), total_timesteps
    parameters, counters, statistics, total_timesteps = of_rank(told, source)
    parameters = th.load(io.BytesIO(parameters), map_location=model.device, weights_only=True)
    model.set_parameters(parameters, device=model.device)
    vars(model).update(counters)
    if rank() > 0:
        model.verbose, model.tensorboard_log = 0, None
    _diverge(model)
    _take_statistics(model, statistics)
    return total_timesteps


def _require_same_settings(model: ResumableAlgorithm) -> None:
    if model.train_freq.unit == TrainFrequencyUnit.EPISODE:  # type: ignore[union-attr]
        raise ValueError("several ranks stay in step by steps: train_freq cannot count episodes")
    of_ranks = gathered({name: getattr(model, name) for name in _SETTINGS})
    for other, settings in enumerate(of_ranks):
        for name, value in settings.items():
            if value != of_ranks[0][name]:
                raise ValueError(f"{name} is {of_ranks[0][name]!r} on rank 0 and {value!r} on rank {other}")


def _diverge(model: ResumableAlgorithm) -> None:
    """Give the model random streams of its own, unless it already has this rank's."""
    if model._rank == rank():
        return
    model._rank = rank()
    model._pause = model._last_obs = None
    entropy = None if model.seed is None else (model.seed, rank(), model.num_timesteps)
    seed = np.random.SeedSequence(entropy).generate_state(2)
    model.set_random_seed(int(seed[0] >> 1))
    model.replay_buffer.seed(int(seed[1]))


# -------------------------------------------------------------------- VecNormalize


def agree_on_observations(normalizer: VecNormalize | None) -> None:
    """
    Add what the other ranks' environments showed since the last time to the statistics of this rank's.

    :param normalizer: of the training environments, if there is one
    """
    if world_size() == 1 or normalizer is None:
        return
    for key, moments in _moments(vars(normalizer)).items():
        agreed = _AGREED[normalizer][key]
        agreed += add_up(_sums(moments) - agreed)
        count, mean, square = agreed[0], *(agreed[1:] / agreed[0]).chunk(2)
        moments.count = float(count)
        moments.mean = mean.numpy().reshape(moments.mean.shape)
        moments.var = (square - mean**2).clamp(min=0.0).numpy().reshape(moments.mean.shape)


def _moments(statistics: dict[str, Any]) -> dict[str, RunningMeanStd]:
    """Those of the observations, by the key of a ``Dict``, and of the returns."""
    found: dict[str, RunningMeanStd] = {}
    for name in ("obs_rms", "ret_rms"):
        part = statistics.get(name)
        parts = part if isinstance(part, dict) else {"": part}
        found |= {f"{name}/{key}": each for key, each in parts.items() if each is not None}
    return found


def _sums(moments: RunningMeanStd) -> th.Tensor:
    mean, square = np.ravel(moments.mean), np.ravel(moments.var) + np.ravel(moments.mean) ** 2
    return th.from_numpy(moments.count * np.concatenate(([1.0], mean, square)))


def _statistics(model: ResumableAlgorithm) -> dict[str, Any]:
    """Those with which the model will go on."""
    normalizer = model.get_vec_normalize_env()
    if normalizer is None:
        return {}
    stored = {} if model._pause is None else model._pause.normalizer
    return {name: vars(normalizer)[name] for name in ("obs_rms", "ret_rms") if name in vars(normalizer)} | stored


def _take_statistics(model: ResumableAlgorithm, statistics: dict[str, Any]) -> None:
    normalizer = model.get_vec_normalize_env()
    if normalizer is None:
        return
    vars(normalizer).update(statistics)
    if model._pause is not None:
        model._pause.normalizer = deepcopy(statistics)
    _AGREED[normalizer] = {key: _sums(moments) for key, moments in _moments(statistics).items()}
