"""Checkpoints: a folder in which the last complete one can always be found, whenever the process was stopped.

::

    folder/checkpoint-000007/model.zip         see model_files
    folder/checkpoint-000007/checkpoint.json   the steps so far, and which files hold the replay
    folder/rows-000001.zip ...                 see replay_files; checkpoints share them

Of several ranks (:mod:`sb3_dream.distributed`) each saves its own, rank 0 there and rank 1 in ``folder/rank-1``.

The rows are written first, then the checkpoint, aside and flushed, and a last renaming makes it visible. Rows that no
checkpoint needs any more are removed with the oldest checkpoints.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.callbacks import BaseCallback

from sb3_dream.atomic_files import added_at_once, remove_leftovers, removed_at_once
from sb3_dream.nn.collectives import Agreement, rank, world_size
from sb3_dream.replay_files import ReplayChain

if TYPE_CHECKING:
    from sb3_dream.saved_algorithm import SavedAlgorithm

MODEL = "model.zip"
_ABOUT = "checkpoint.json"
_CHECKPOINT = "checkpoint-{:06d}"
_ROWS = "rows-{:06d}.zip"


def write_checkpoint(model: SavedAlgorithm, chain: ReplayChain, keep: int | None) -> Path:
    """
    :param model: what to save
    :param chain: of its replay buffer
    :param keep: how many of the newest checkpoints stay; None for all
    :return: the new checkpoint
    :raises ValueError: if ``keep`` is no number of checkpoints
    """
    if keep is not None and keep < 1:
        raise ValueError(f"keep must be at least 1, or None for all, not {keep!r}")
    folder = chain.folder
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    number = 1 + max(_numbers(folder), default=0)
    chain.save(model.replay_buffer, _ROWS.format(number))
    checkpoint = folder / _CHECKPOINT.format(number)
    about = {"steps": model.num_timesteps, "updates": model._n_updates, "replay": chain.names}
    with added_at_once(checkpoint) as aside:
        model.save(aside / MODEL)
        (aside / _ABOUT).write_text(json.dumps(about))
    if keep is not None:
        for old in checkpoints(folder)[:-keep]:
            removed_at_once(old)
    _remove_rows(folder, chain)
    return checkpoint


def checkpoints(folder: Path) -> list[Path]:
    """
    :param folder: where checkpoints are
    :return: all of them, the oldest first
    """
    return sorted(path.parent for path in folder.glob(f"checkpoint-*/{_ABOUT}"))


def rank_folder(folder: Path) -> Path:
    """
    :param folder: of a run's checkpoints
    :return: where those of this process are, one of several that train together
    """
    return folder / f"rank-{rank()}" if rank() else folder


def newest_checkpoint(folder: Path) -> Path:
    """
    :param folder: where checkpoints are, or one of them
    :return: the newest, of whatever rank, or the one. Of several ranks, each gets its own of that time, if it has one
    :raises FileNotFoundError: if there is none
    """
    if (folder / _ABOUT).is_file():
        found = folder
    else:
        of_ranks = [checkpoints(each)[-1:] for each in (folder, *sorted(folder.glob("rank-*")))]
        newest = [checkpoint for each in of_ranks for checkpoint in each]
        if not newest:
            raise FileNotFoundError(f"there is no checkpoint in {folder}")
        found = max(newest, key=lambda checkpoint: checkpoint.name)  # rank 0's, where several are as new
    if world_size() == 1:
        return found
    run = found.parent.parent if found.parent.name.startswith("rank-") else found.parent
    own = [checkpoint for checkpoint in checkpoints(rank_folder(run)) if checkpoint.name <= found.name]
    return own[-1] if own else found


def replay_files(checkpoint: Path) -> list[str]:
    """
    :param checkpoint: one of them
    :return: names of the files with its replay, the oldest first
    :raises ValueError: if it is damaged
    """
    try:
        names = json.loads((checkpoint / _ABOUT).read_text())["replay"]
        if not (names and isinstance(names, list) and all(re.fullmatch(r"rows-\d+\.zip", name) for name in names)):
            raise ValueError("it names no files of rows")
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint / _ABOUT} is damaged: {error!r}") from error
    return names


def _numbers(folder: Path) -> list[int]:
    found = (re.fullmatch(r"(?:checkpoint|rows)-(\d+)(?:\.zip)?", path.name) for path in folder.iterdir())
    return [int(match[1]) for match in found if match]


def _remove_rows(folder: Path, chain: ReplayChain) -> None:
    """Those that neither a checkpoint nor the next one needs."""
    needed = {*chain.names, *(name for each in checkpoints(folder) for name in replay_files(each))}
    for path in folder.glob("rows-*.zip"):
        if path.name not in needed:
            path.unlink()


class CheckpointCallback(BaseCallback):
    """
    Saves checkpoints of a ``DREAM`` while it learns. They are taken between two steps, so that a
    run that goes on from one (:meth:`DREAM.load_checkpoint`) is the run that was not stopped.

    :param folder: where they go
    :param save_freq: environment steps, over all environments, between two; None for no such rule
    :param seconds: least time between two, beside ``save_freq``; None for no such rule
    :param keep: how many of the newest stay; None for all
    :param at_end: save one when ``learn`` is done, too
    :param verbose: 1 to say what was saved
    :raises ValueError: for numbers that make no sense
    """

    def __init__(
        self,
        folder: str | Path,
        save_freq: int | None = 10_000,
        seconds: float | None = None,
        keep: int | None = 3,
        at_end: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        for name, value in (("save_freq", save_freq), ("seconds", seconds), ("keep", keep)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, or None, not {value!r}")
        self.folder, self.save_freq, self.seconds, self.keep = Path(folder), save_freq, seconds, keep
        self.at_end = at_end
        self._saved: tuple[int, float] = (0, 0.0)
        self._any_rank_is_due = Agreement()

    def _init_callback(self) -> None:
        if not hasattr(self.model, "save_checkpoint"):
            raise TypeError(
                f"CheckpointCallback saves a DREAM, not a {type(self.model).__name__}: for that there is the one of "
                "stable_baselines3.common.callbacks"
            )

    def _on_training_start(self) -> None:
        self._saved = self.model.num_timesteps, time.monotonic()

    def _on_rollout_start(self) -> None:  # not in the middle of a step: what is saved here is resumed exactly
        steps, seconds = self.model.num_timesteps - self._saved[0], time.monotonic() - self._saved[1]
        by_steps = self.save_freq is not None and steps >= self.save_freq
        by_time = self.seconds is not None and self._any_rank_is_due(seconds >= self.seconds)
        if steps > 0 and (by_steps or by_time):
            self._save()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.at_end and self.model.num_timesteps > self._saved[0]:
            self._save()

    def _save(self) -> None:
        model: Any = self.model
        path = model.save_checkpoint(self.folder, self.keep)
        self._saved = self.model.num_timesteps, time.monotonic()
        if self.verbose >= 1:
            print(f"Saved {path} after {self.model.num_timesteps} steps")
