"""RL Zoo's experiment on several ranks: rank 0 logs, evaluates and saves for all, in one folder."""

import argparse
from pathlib import Path
from typing import Any

from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_dream.errors import CommandError
from sb3_dream.experiment import CHECKPOINTS, KEPT_CHECKPOINTS, Experiment
from sb3_dream.nn.collectives import of_rank, rank, world_size
from sb3_dream.saved_algorithm import SavedAlgorithm


class RankedExperiment(Experiment):
    """
    One process's part. All ranks save checkpoints, rank 0 everything else. See :class:`Experiment` for the arguments.

    :raises CommandError: for what several ranks cannot do
    """

    def __init__(self, args: argparse.Namespace, algo: str, env_id: str, log_folder: str, *rest: Any, **keywords: Any):
        super().__init__(args, algo, env_id, log_folder, *rest, **keywords)
        if self.optimize_hyperparameters:
            raise CommandError("a search runs in independent processes that share a --storage, not on ranks")
        if not issubclass(ALGOS[algo], SavedAlgorithm):
            raise CommandError(f"{algo} cannot train on several ranks, dream can")
        self.seed, self.save_path = of_rank((self.seed, self.save_path), 0)
        self.params_path = f"{self.save_path}/{self.env_name}"
        if self.eval_freq > 0:  # which RL Zoo counts in this process's steps
            self.eval_freq = max(self.eval_freq // world_size(), 1)
        if rank() > 0:
            self.verbose, self.tensorboard_log, self.eval_freq, self.show_progress = 0, None, -1, False

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        return super().create_envs(n_envs, eval_env, no_log or rank() > 0)

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        if rank() == 0:
            super()._save_config(saved_hyperparams)

    def _remove_empty_run(self) -> None:
        if rank() == 0:
            super()._remove_empty_run()

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        if rank() == 0:
            super().save_trained_model(model)
        elif self._stop.received:
            self.save(model, with_buffer=True)

    def _write(self, model: BaseAlgorithm, target: Path, with_buffer: bool) -> None:
        if rank() == 0:
            super()._write(model, target, with_buffer)
        elif with_buffer:
            model.save_checkpoint(target / CHECKPOINTS, KEPT_CHECKPOINTS)  # type: ignore[attr-defined]
