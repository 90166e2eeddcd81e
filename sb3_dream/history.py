"""The record of a training run: its episodes, its logged numbers, what they amount to, and the file that keeps them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

_FILE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Episode:
    """A finished training episode.

    :param timestep: environment steps of the whole training (all environments together) when it ended
    :param time: seconds of training when it ended
    :param reward: undiscounted sum of rewards, before any ``VecNormalize``
    :param length: environment steps
    :param success: whether it was a success; ``None`` where nothing tells
    :param counters: the run's counters, read from the info of the last step
    """

    timestep: int
    time: float
    reward: float
    length: int
    success: bool | None = None
    counters: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scalars:
    """What the logger held at one moment.

    :param timestep: environment steps of the whole training
    :param time: seconds of training
    :param values: logged numbers by key, such as ``"train/loss"``
    """

    timestep: int
    time: float
    values: dict[str, float]


class TrainingHistory:
    """
    Episodes and logged numbers of a training run, in the order of their timesteps.

    :param counters: names of the counters that episodes have, such as ``"total_lines"``
    """

    def __init__(self, counters: Sequence[str] = ()) -> None:
        if isinstance(counters, str):
            raise TypeError(f"counters must be a sequence of info keys, such as ({counters!r},), not a string")
        self.counters = tuple(counters)
        self.episodes: list[Episode] = []
        self.scalars: list[Scalars] = []
        # What the model counted before it last reset its number of timesteps
        self.offset = 0

    @property
    def timesteps(self) -> int:
        """Environment steps at the last record."""
        return max((records[-1].timestep for records in (self.episodes, self.scalars) if records), default=0)

    @property
    def seconds(self) -> float:
        """Seconds of training at the last record."""
        return max((records[-1].time for records in (self.episodes, self.scalars) if records), default=0.0)

    @property
    def episode_timesteps(self) -> np.ndarray:
        """Environment steps at the end of each episode, shape (episodes,)."""
        return np.array([episode.timestep for episode in self.episodes], dtype=np.int64)

    @property
    def episode_rewards(self) -> np.ndarray:
        """Undiscounted return of each episode, shape (episodes,)."""
        return np.array([episode.reward for episode in self.episodes], dtype=np.float64)

    @property
    def episode_lengths(self) -> np.ndarray:
        """Environment steps in each episode, shape (episodes,)."""
        return np.array([episode.length for episode in self.episodes], dtype=np.int64)

    def episode_counters(self, name: str) -> np.ndarray:
        """
        :param name: one of ``counters``
        :return: the counter at the end of each episode, shape (episodes,); NaN where the info lacked it
        """
        return np.array([episode.counters.get(name, math.nan) for episode in self.episodes], dtype=np.float64)

    @property
    def scalar_keys(self) -> list[str]:
        """Every key that was logged, sorted."""
        return sorted({key for record in self.scalars for key in record.values})

    def scalar(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """
        :param key: a logged key, such as ``"train/loss"``
        :return: environment steps and values, each of shape (records,); empty when it was never logged
        """
        records = [record for record in self.scalars if key in record.values]
        steps = np.array([record.timestep for record in records], dtype=np.int64)
        return steps, np.array([record.values[key] for record in records], dtype=np.float64)

    @property
    def losses(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Environment steps and values of every logged training loss, by key."""
        return {key: self.scalar(key) for key in self.scalar_keys if key.startswith("train/") and "loss" in key}

    @property
    def exploration_rates(self) -> tuple[np.ndarray, np.ndarray]:
        """Environment steps and the probability of a random action; empty where the algorithm has none."""
        return self.scalar("rollout/exploration_rate")

    def get_stats(self, window: int | None = 100) -> dict[str, float]:
        """
        Summarise the last episodes. A mean over no episode is NaN.

        :param window: number of latest episodes for means, deviations and rates; ``None`` for all
        :return: ``mean_reward``, ``std_reward`` (of the population), ``mean_length``, ``success_rate`` (over those
            episodes of which a success is known); over the whole training ``num_episodes``, ``timesteps`` and
            ``seconds``; for each counter, here ``"total_lines"``, its sum over the whole training
            (``total_lines``) and its mean over the window (``lines_per_episode``)
        """
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 episode, or None for all of them, got {window}")
        recent = self.episodes if window is None else self.episodes[-window:]
        rewards = [episode.reward for episode in recent]
        stats = {
            "mean_reward": mean(rewards),
            "std_reward": float(np.std(rewards)) if rewards else math.nan,
            "mean_length": mean(episode.length for episode in recent),
            "success_rate": mean(episode.success for episode in recent if episode.success is not None),
            "num_episodes": len(self.episodes),
            "timesteps": self.timesteps,
            "seconds": self.seconds,
        }
        for name in self.counters:
            label = name.removeprefix("total_")
            known = (episode.counters[name] for episode in recent if name in episode.counters)
            stats[f"total_{label}"] = sum(episode.counters.get(name, 0) for episode in self.episodes)
            stats[f"{label}_per_episode"] = mean(known)
        return stats

    def forget_after(self, timestep: int) -> None:
        """
        Drop every later record.

        :param timestep: the last environment step to keep
        """
        self.episodes = [episode for episode in self.episodes if episode.timestep <= timestep]
        self.scalars = [record for record in self.scalars if record.timestep <= timestep]

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write the whole history as JSON lines: a header, then a line for each record.

        :param path: file to write; folders are made as needed, and an old file is replaced only once the new is whole
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"version": _FILE_VERSION, "counters": self.counters, "offset": self.offset}
        partial = path.with_name(path.name + ".partial")
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"training_history": header}) + "\n")
            file.writelines(map(to_line, self.episodes))
            file.writelines(map(to_line, self.scalars))
        partial.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """
        Read a history, to plot it or to continue it.

        :param path: a file that ``save`` wrote
        :param kwargs: arguments of the constructor; ``counters`` are the file's unless given
        :raises ValueError: when the file is not such a history
        """
        history = cls(**kwargs)
        counters = history.read(path)
        if "counters" not in kwargs:
            history.counters = counters
        return history

    def read(self, path: str | os.PathLike[str]) -> tuple[str, ...]:
        """
        Take over the records of a file, in place of those that are here.

        :param path: a file that ``save`` wrote
        :return: the names of the file's counters
        :raises ValueError: when the file is not such a history
        """
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        try:
            header = json.loads(lines[0])["training_history"]
        except (IndexError, KeyError, TypeError, json.JSONDecodeError):
            raise ValueError(f"{path} is not a training history: its first line is not the header of one") from None
        if header["version"] != _FILE_VERSION:
            raise ValueError(f"{path} has format version {header['version']}, expected {_FILE_VERSION}")
        records: list[Episode | Scalars] = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                records.append(_from_line(line))
            except json.JSONDecodeError:
                if number == len(lines):
                    break  # the run was killed while it wrote its last record
                raise ValueError(f"{path}, line {number}: not JSON: {line[:80]!r}") from None
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: not a record of a training history: {error}") from None
        self.episodes = [record for record in records if isinstance(record, Episode)]
        self.scalars = [record for record in records if isinstance(record, Scalars)]
        self.offset = header["offset"]
        return tuple(header["counters"])


def to_line(record: Episode | Scalars) -> str:
    """
    :param record: a record of a history
    :return: its line in a file
    """
    kind = "episode" if isinstance(record, Episode) else "scalars"
    return json.dumps({kind: _without_non_finite(asdict(record))}, allow_nan=False) + "\n"


def _from_line(line: str) -> Episode | Scalars:
    ((kind, content),) = json.loads(line).items()
    if kind == "episode":
        content["reward"] = float(content["reward"])
        content["counters"] = {key: float(value) for key, value in content["counters"].items()}
        return Episode(**content)
    if kind == "scalars":
        content["values"] = {key: float(value) for key, value in content["values"].items()}
        return Scalars(**content)
    raise ValueError(f"expected 'episode' or 'scalars', got {kind!r}")


def _without_non_finite(value: Any) -> Any:
    """JSON has no NaN and no infinities: they are written as text, which ``float`` reads."""
    if isinstance(value, dict):
        return {key: _without_non_finite(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def mean(values: Iterable[float]) -> float:
    """
    :param values: any numbers
    :return: their mean; NaN when there are none
    """
    values = list(values)
    return float(np.mean(values)) if values else math.nan
