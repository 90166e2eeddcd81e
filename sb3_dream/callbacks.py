"""Callbacks for any Stable-Baselines3 algorithm: a training monitor and a curriculum."""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_dream.history import Episode, Scalars, TrainingHistory, mean, to_line

SuccessFn = Callable[[dict[str, Any]], bool]
"""Judges an episode by the info of its last step."""

_UNRECORDED_ENDS_BEFORE_WARNING = 10
_POSITION = "curriculum"  # attribute of the model in which a curriculum keeps where it is


class TrainingMonitor(BaseCallback, TrainingHistory):
    """
    Keeps the history of a training run: every episode, and every number that is logged.

    Episodes are found in ``infos[i]["episode"]``, where ``Monitor``, ``VecMonitor`` and environments with
    episode statistics of their own put them. Logged numbers are taken whenever the logger writes them and, where it
    rarely or never does (``log_interval=None``, long episodes), every ``scalar_interval`` steps.

    One monitor may see several calls of ``learn()``. A call that resets the number of timesteps is appended after
    what is there. A call that continues from a checkpoint older than the history first forgets what came after the
    checkpoint, since it will happen again.

    :param counters: keys to read from the info of an episode's last step; those that it lacks are skipped
    :param success_fn: says from the info of an episode's last step whether it was a success;
        by default ``info["is_success"]`` tells, where it exists
    :param scalar_interval: environment steps after which logged numbers are taken even if the logger writes nothing
    :param save_path: a file that follows the training. A new run overwrites it, a resumed one continues it
    :param verbose: 0 for no output, 1 to say when a resumed run continues or shortens a history
    """

    def __init__(
        self,
        counters: Sequence[str] = ("total_lines", "pieces_placed"),
        success_fn: SuccessFn | None = None,
        scalar_interval: int = 1_000,
        save_path: str | os.PathLike[str] | None = None,
        verbose: int = 0,
    ) -> None:
        BaseCallback.__init__(self, verbose)
        TrainingHistory.__init__(self, counters)
        if scalar_interval < 1:
            raise ValueError(f"scalar_interval must be at least 1 environment step, got {scalar_interval}")
        self.success_fn = success_fn
        self.scalar_interval = scalar_interval
        self.save_path = None if save_path is None else Path(save_path)
        self._seconds_before = 0.0
        self._started = 0.0
        self._unrecorded_ends = 0
        self._tap = _LoggerTap(self._record_scalars)

    def _on_training_start(self) -> None:
        steps = self.model.num_timesteps
        is_empty = not self.episodes and not self.scalars
        if steps == 0:
            self.offset = self.timesteps
        elif is_empty and self.save_path is not None and self.save_path.exists():
            self.read(self.save_path)
            self._say(f"continuing the history in {self.save_path}")
        episodes = len(self.episodes)
        self.forget_after(self.offset + steps)
        if len(self.episodes) < episodes:
            self._say(f"training resumes at timestep {steps}: forgot {episodes - len(self.episodes)} later episodes")
        self._seconds_before = self.seconds
        self._started = time.perf_counter()
        if self.save_path is not None:
            self.save(self.save_path)

    def _on_rollout_start(self) -> None:
        # Here, not at the start alone: another callback may have given the model a logger of its own
        if self._tap not in self.logger.output_formats:
            self.logger.output_formats.append(self._tap)
        last = self.scalars[-1].timestep if self.scalars else self.offset
        if self._now()[0] - last >= self.scalar_interval:
            self._record_scalars(self.logger.name_to_value)

    def _on_step(self) -> bool:
        for _, info in _finished(self.locals):
            if "episode" in info:
                self._record_episode(info)
            elif not self.episodes:
                self._warn_of_unrecorded_end()
        return True

    def _on_training_end(self) -> None:
        # On-policy algorithms train once more after they have logged for the last time
        self._record_scalars(self.logger.name_to_value)
        if self._tap in self.logger.output_formats:
            self.logger.output_formats.remove(self._tap)

    def _record_episode(self, info: dict[str, Any]) -> None:
        statistics = info["episode"]
        found = {name: info.get(name, statistics.get(name)) for name in self.counters}
        timestep, seconds = self._now()
        episode = Episode(
            timestep=timestep,
            time=seconds,
            reward=float(statistics["r"]),
            length=int(statistics["l"]),
            success=_success(info, self.success_fn),
            counters={name: float(value) for name, value in found.items() if value is not None},
        )
        self.episodes.append(episode)
        self._append(episode)

    def _record_scalars(self, logged: Mapping[str, Any]) -> None:
        # The logger's times are its own; the record has the time of the whole training
        values = {
            key: float(value) for key, value in logged.items() if _is_number(value) and not key.startswith("time/")
        }
        if not values:
            return
        exploration_rate = getattr(self.model, "exploration_rate", None)
        if isinstance(exploration_rate, Real):
            values.setdefault("rollout/exploration_rate", float(exploration_rate))
        self.scalars.append(Scalars(*self._now(), values))
        self._append(self.scalars[-1])

    def _now(self) -> tuple[int, float]:
        seconds = self._seconds_before + time.perf_counter() - self._started
        return self.offset + self.model.num_timesteps, round(seconds, 3)

    def _append(self, record: Episode | Scalars) -> None:
        if self.save_path is not None:
            with self.save_path.open("a", encoding="utf-8") as file:
                file.write(to_line(record))

    def _warn_of_unrecorded_end(self) -> None:
        self._unrecorded_ends += 1
        if self._unrecorded_ends == _UNRECORDED_ENDS_BEFORE_WARNING:
            warnings.warn(
                f"TrainingMonitor saw {self._unrecorded_ends} episodes end without infos[i]['episode'] and recorded "
                "none: wrap the environments in Monitor, or the vectorized environment in VecMonitor",
                UserWarning,
                stacklevel=2,
            )

    def _say(self, text: str) -> None:
        if self.verbose >= 1:
            print(f"TrainingMonitor: {text}")


class _LoggerTap(KVWriter):
    """A logger output that hands on what the logger writes: after a dump the logger itself no longer has it."""

    def __init__(self, receive: Callable[[Mapping[str, Any]], None]) -> None:
        self._receive = receive

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self._receive(key_values)

    def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True)
class Stage:
    """One stage of a curriculum. It is passed once both of its conditions hold.

    :param difficulty: what ``set_difficulty`` is given
    :param min_episodes: episodes to finish in this stage, over all environments
    :param success_rate: share of successes to reach, over the latest ``window`` episodes of this stage;
        ``None`` leaves the number of episodes as the only condition
    """

    difficulty: int | float
    min_episodes: int = 1
    success_rate: float | None = None

    def __post_init__(self) -> None:
        if self.min_episodes < 1:
            raise ValueError(f"min_episodes must be at least 1, got {self.min_episodes}")
        if self.success_rate is not None and not 0.0 <= self.success_rate <= 1.0:
            raise ValueError(f"success_rate must lie in [0, 1] or be None, got {self.success_rate}")


class CurriculumCallback(BaseCallback):
    """
    Makes the training environments harder, stage by stage, by calling their ``set_difficulty``.

    An episode counts for a stage only if it began in it: a difficulty takes effect at a reset, so the episodes that are
    under way when a stage begins still belong to the one before. The last stage lasts for ever. Evaluation environments
    are left alone.

    The model keeps the position, and it is saved with it: ``learn(..., reset_num_timesteps=False)`` goes on from there,
    also with a loaded model and a new callback of the same stages.

    ``curriculum/stage``, ``curriculum/difficulty`` and ``curriculum/success_rate`` are logged.

    :param stages: the stages in order, as ``Stage`` or as mappings of its fields (from a YAML file)
    :param success_fn: says from the info of an episode's last step whether it was a success, for instance
        ``lambda info: info["episode"]["r"] > 100``; by default ``info["is_success"]`` tells
    :param window: most episodes over which a success rate is taken
    :param verbose: 0 for no output, 1 to announce each stage
    """

    def __init__(
        self,
        stages: Iterable[Stage | Mapping[str, Any]],
        success_fn: SuccessFn | None = None,
        window: int = 100,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.stages = tuple(stage if isinstance(stage, Stage) else Stage(**stage) for stage in stages)
        if not self.stages:
            raise ValueError("stages must hold at least one Stage")
        if window < 1:
            raise ValueError(f"window must be at least 1 episode, got {window}")
        self.success_fn = success_fn
        self.window = window
        self.stage_index = 0
        self.episodes_in_stage = 0
        self._successes: deque[bool] = deque(maxlen=window)
        self._began_earlier = np.zeros(0, dtype=bool)

    @property
    def stage(self) -> Stage:
        """The stage that training is in."""
        return self.stages[self.stage_index]

    @property
    def success_rate(self) -> float:
        """Share of successes over the latest ``window`` episodes of this stage; NaN before the first one is known."""
        return mean(self._successes)

    def _on_training_start(self) -> None:
        position = getattr(self.model, _POSITION, None)
        if self.num_timesteps and position is not None:
            self._go_to(**position)
        else:
            self._begin_stage()
        self._set_difficulty()
        self._keep_position()

    def _on_step(self) -> bool:
        finished = _finished(self.locals)
        for index, info in finished:
            if self._began_earlier[index]:
                self._began_earlier[index] = False
            else:
                self._count(info)
        if self._is_passed():
            self.stage_index += 1
            self.episodes_in_stage = 0
            self._successes.clear()
            self._begin_stage()
            self._set_difficulty()
        if finished:
            self._keep_position()
        # At every step, since the logger forgets what it has written and any step may be followed by a dump
        self.logger.record("curriculum/stage", self.stage_index)
        self.logger.record("curriculum/difficulty", self.stage.difficulty)
        if self._successes:
            self.logger.record("curriculum/success_rate", self.success_rate)
        return True

    def _count(self, info: dict[str, Any]) -> None:
        self.episodes_in_stage += 1
        success = _success(info, self.success_fn)
        if success is not None:
            self._successes.append(success)
        elif self.stage.success_rate is not None:
            raise RuntimeError(
                f"stage {self.stage_index} waits for a success rate of {self.stage.success_rate}, but the info at the "
                "end of an episode has no 'is_success': give CurriculumCallback a success_fn"
            )

    def _is_passed(self) -> bool:
        if self.stage_index + 1 == len(self.stages) or self.episodes_in_stage < self.stage.min_episodes:
            return False
        return self.stage.success_rate is None or self.success_rate >= self.stage.success_rate

    def _keep_position(self) -> None:
        position = {
            "stage_index": self.stage_index,
            "episodes_in_stage": self.episodes_in_stage,
            "successes": list(self._successes),
            "began_earlier": self._began_earlier.tolist(),
        }
        setattr(self.model, _POSITION, position)

    def _go_to(
        self, stage_index: int, episodes_in_stage: int, successes: list[bool], began_earlier: list[bool]
    ) -> None:
        if not 0 <= stage_index < len(self.stages):
            raise ValueError(
                f"the model is in stage {stage_index}, this curriculum has stages 0 to {len(self.stages) - 1}"
            )
        self.stage_index, self.episodes_in_stage = stage_index, episodes_in_stage
        self._successes = deque(successes, maxlen=self.window)
        self._began_earlier = np.resize(began_earlier, self.training_env.num_envs)  # perhaps another number of them

    def _begin_stage(self) -> None:
        """Episodes that are under way now will not count."""
        self._began_earlier = np.ones(self.training_env.num_envs, dtype=bool)

    def _set_difficulty(self) -> None:
        env = self.training_env
        difficulty = self.stage.difficulty
        message = "CurriculumCallback needs training environments with a method set_difficulty(difficulty)"
        # The workers of a SubprocVecEnv die of an unknown method, so they are asked first
        if isinstance(env.unwrapped, SubprocVecEnv) and not env.unwrapped.has_attr("set_difficulty"):
            raise AttributeError(message)
        try:
            env.env_method("set_difficulty", difficulty)
        except (AttributeError, NotImplementedError) as error:
            raise AttributeError(message) from error
        if self.verbose >= 1:
            print(f"CurriculumCallback: timestep {self.num_timesteps}, stage {self.stage_index}, {difficulty=}")


def _finished(locals_: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Index and last info of each environment whose episode ended in this step."""
    if "dones" not in locals_ or "infos" not in locals_:
        return []
    infos = locals_["infos"]
    return [(int(index), infos[index]) for index in np.flatnonzero(locals_["dones"])]


def _success(info: dict[str, Any], success_fn: SuccessFn | None) -> bool | None:
    success = info.get("is_success") if success_fn is None else success_fn(info)
    return None if success is None else bool(success)


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray | th.Tensor):
        return value.ndim == 0
    return isinstance(value, Real)
