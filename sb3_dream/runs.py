"""One training run in a folder of its own: begun, gone on with after a stop, and known when it is finished."""

import argparse
import json
import platform
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import deepcopy
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import torch as th
from huggingface_sb3 import EnvironmentName
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_dream import zoo
from sb3_dream.experiment import Experiment, newest_model
from sb3_dream.stopping import StopSignal

#: What a result depends on, besides the code.
PACKAGES = ("sb3-dream", "stable-baselines3", "sb3-contrib", "rl_zoo3", "gymnasium", "torch", "numpy", "numba")


class Run:
    """
    An algorithm, an environment, a number of steps and a seed, with RL Zoo's layout of folders, so that ``enjoy`` and
    ``record-video`` find what was trained.

    :param folder: where runs are; this one's place is ``ALGO/ENV_{seed + 1}`` in it
    :param algo: name of the algorithm
    :param env_id: Gymnasium's id
    :param steps: environment steps to train for
    :param seed: of everything random
    :param config: file of the hyperparameters; None for the one that ``train`` takes
    """

    def __init__(self, folder: Path, algo: str, env_id: str, steps: int, seed: int, config: Path | None = None) -> None:
        self.algo = algo
        self.env_id = env_id
        self.steps = steps
        self.seed = seed
        self.config = config
        self.name = EnvironmentName(env_id)
        self.folder = folder / algo / f"{self.name}_{seed + 1}"

    @property
    def model_file(self) -> Path:
        """:return: where the model is, once the run was stopped or is finished"""
        return self.folder / f"{self.name}.zip"

    @property
    def result_file(self) -> Path:
        """:return: where the result is kept, as JSON"""
        return self.folder / "result.json"

    def result(self) -> dict[str, Any]:
        """:return: what :meth:`keep` kept, or nothing"""
        return json.loads(self.result_file.read_text()) if self.result_file.is_file() else {}

    def keep(self, result: dict[str, Any]) -> None:
        """
        Write the result, aside first, so that what was there stays whole until then.

        :param result: anything that JSON holds
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.result_file.with_suffix(".new")
        aside.write_text(json.dumps(result))
        aside.replace(self.result_file)

    def load(self, **kwargs: Any) -> BaseAlgorithm:
        """
        :param kwargs: attributes to change
        :return: the trained model
        """
        return ALGOS[self.algo].load(self.model_file, **kwargs)

    def train(
        self,
        stop: StopSignal,
        callbacks: Callable[[Experiment], list[BaseCallback]],
        log: TextIO,
        progress: bool = False,
        keep_buffer: bool = False,
    ) -> BaseAlgorithm:
        """
        Train, from where the run was stopped if it was.

        :param stop: tells afterwards whether the user stopped it again; what was learned is saved either way
        :param callbacks: makes the callbacks, given the experiment
        :param log: takes what RL Zoo prints
        :param progress: show a progress bar
        :param keep_buffer: save the replay buffer of a finished run too, so that it can be made longer
        :return: the model
        """
        start = newest_model(self.folder, self.name)
        resume = start is not None
        options = argparse.Namespace(algo=self.algo, env=self.env_id, seed=self.seed, env_kwargs=None)
        with redirect_stdout(log):
            experiment = Experiment(
                options,
                self.algo,
                self.env_id,
                str(self.folder.parent.parent),
                n_timesteps=self.steps,
                eval_freq=-1,
                log_interval=-1,
                trained_agent=str(start) if resume else "",
                seed=self.seed,
                verbose=0,
                config=str(self.config or zoo.config_file(self.algo, self.env_id)),
                show_progress=progress,
                save_replay_buffer=keep_buffer,
                arguments=["--algo", self.algo, "--env", self.env_id, "-n", str(self.steps)],
                stop=stop,
                run=self.folder,
                resume=resume,
            )
            prepared = experiment.setup_experiment()
        assert prepared is not None, "RL Zoo returns no model only when it searches for hyperparameters"
        model, _ = prepared
        with redirect_stdout(log):
            experiment.callbacks += callbacks(experiment)
        experiment.learn(model)
        with redirect_stdout(log):
            experiment.save_trained_model(model)
        return model


def evaluation_env(run: Run, n_envs: int, seed: int) -> VecEnv:
    """
    :param run: what to evaluate; the statistics of its ``VecNormalize`` are used if it has them
    :param n_envs: how many environments
    :param seed: of the first one; the others count on from it
    :return: environments as the zoo makes them, but for the reward, which is the environment's own
    """
    env = make_vec_env(run.env_id, n_envs, seed=seed)
    statistics = run.folder / run.name / "vecnormalize.pkl"
    return scaled_as(VecNormalize.load(str(statistics), env) if statistics.is_file() else None, env)


def scaled_as(normalizer: VecNormalize | None, env: VecEnv) -> VecEnv:
    """
    :param normalizer: of a training, or None
    :param env: where what was trained is evaluated, not normalised yet
    :return: the environment with observations on the scale that they have in training now; rewards stay its own
    """
    if normalizer is None:
        return env
    scaled = deepcopy(normalizer)
    scaled.set_venv(env)
    scaled.training = scaled.norm_reward = False
    return scaled


def versions() -> dict[str, str]:
    """:return: the versions of everything that a result depends on, and the machine's kind"""
    found = {"python": platform.python_version(), "platform": platform.platform(), "processor": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # a checkout that is not installed
            continue
    found["torch threads"] = str(th.get_num_threads())
    return found
