"""DREAM and MaskablePPO in RL Zoo: registration, search spaces, hyperparameter files, environments."""

import difflib
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import optuna
import rl_zoo3
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rl_zoo3 import hyperparams_opt
from rl_zoo3.gym_patches import PatchedTimeLimit
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO

from sb3_dream.dream import DREAM
from sb3_dream.environments import ensure_registered
from sb3_dream.errors import CommandError, one_line

#: Hyperparameters of DREAM that are searched among powers of two -> the smallest and the largest exponent.
DREAM_POWERS = {"train_ratio": (2, 6), "batch_size": (3, 6), "sequence_length": (3, 6), "imagination_starts": (5, 9)}
_PACKAGE = Path(__file__).resolve().parent
_ZOO_CONFIGS = Path(rl_zoo3.__file__).parent / "hyperparams"


def register() -> None:
    """Give RL Zoo the algorithms that it lacks, and Gymnasium the environments. Calling it again changes nothing."""
    importlib.import_module("tetris_gym")
    ALGOS.update(dream=DREAM, ppo_mask=MaskablePPO)
    hyperparams_opt.HYPERPARAMS_SAMPLER.update(dream=sample_dream, ppo_mask=hyperparams_opt.sample_ppo_params)
    hyperparams_opt.HYPERPARAMS_CONVERTER.update(dream=convert_dream, ppo_mask=hyperparams_opt.convert_onpolicy_params)


def sample_dream(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Draw hyperparameters for DREAM, in the form that all of RL Zoo's samplers have.

    :param trial: what remembers the draws
    :param n_actions: number of action dimensions; not needed here
    :param n_envs: number of training environments; not needed here
    :param additional_args: for replay buffers with goals; not needed here
    :return: keyword arguments of ``DREAM``
    """
    for rate in ("learning_rate", "actor_learning_rate", "critic_learning_rate"):
        trial.suggest_float(rate, 5e-5, 2e-3, log=True)
    trial.suggest_float("one_minus_gamma", 0.001, 0.05, log=True)
    trial.suggest_float("ent_coef", 1e-4, 3e-2, log=True)
    trial.suggest_int("imagination_horizon", 5, 20)
    for name, (smallest, largest) in DREAM_POWERS.items():
        trial.suggest_int(f"{name}_pow", smallest, largest)
    return convert_dream(trial.params)


def convert_dream(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    :param sampled_params: what a trial stored
    :return: the keyword arguments of ``DREAM`` that they stand for
    """
    params = dict(sampled_params)
    powers = {name: 2 ** params.pop(f"{name}_pow") for name in DREAM_POWERS}
    return {"gamma": 1 - params.pop("one_minus_gamma"), **powers, **params}


def check_algorithm(algo: str) -> None:
    """
    :param algo: a name as the command line takes it
    :raises CommandError: if no algorithm has it
    """
    if algo not in ALGOS:
        raise CommandError(f"unknown algorithm '{algo}'{suggestion(algo, ALGOS)}; known: {', '.join(sorted(ALGOS))}")


def check_environment(env_id: str, packages: Iterable[str] = ()) -> None:
    """
    Make sure that Gymnasium knows an environment, looking into installed packages if need be.

    :param env_id: Gymnasium's id
    :param packages: modules that register environments when they are imported
    :raises CommandError: if a package cannot be imported or nothing registers the id
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise CommandError(f"cannot import '{package}', given with --gym-packages: {error}") from error
    if not ensure_registered(env_id):
        raise CommandError(
            f"unknown environment '{env_id}'{suggestion(env_id, gym.registry)}; --gym-packages MODULE imports "
            "what registers environments"
        )


def check_storage(storage: str) -> None:
    """
    :param storage: where a search is kept, as RL Zoo takes it
    :raises CommandError: if it is there and cannot be read, or is neither a journal file nor a database
    """
    try:
        if not storage.endswith(".log"):
            optuna.storages.get_storage(storage)
        elif Path(storage).exists():
            JournalStorage(JournalFileBackend(storage)).get_all_studies()
    except Exception as error:  # whatever a database's driver or a wrong file may raise
        raise CommandError(
            f"cannot open --storage {storage} as a journal file, FILE.log, or a database's URL: {one_line(error)}"
        ) from error


def config_file(algo: str, env_id: str) -> Path:
    """
    Where the hyperparameters of an algorithm for an environment are.

    :param algo: a known algorithm
    :param env_id: a known environment
    :return: this package's file if it names the environment, else RL Zoo's if that does, else the one with a default
    :raises CommandError: if there is none of them
    """
    files = [path for path in (_own_configs() / f"{algo}.yml", _ZOO_CONFIGS / f"{algo}.yml") if path.is_file()]
    for key in (env_id, "default"):
        for path in files:
            if key in read_config(path):
                return path
    raise CommandError(f"no hyperparameters for {algo} on {env_id}: give a file that has them with -conf FILE.yml")


def quick_config_file(env_id: str) -> Path:
    """
    Hyperparameters that make the most of a few minutes.

    :param env_id: a known environment
    :return: DREAM's file for them if it names the environment, else the usual one
    """
    quick = find_config("quick/dream.yml")
    return quick if env_id in read_config(quick) else config_file("dream", env_id)


def find_config(name: str) -> Path:
    """
    :param name: of a file of hyperparameters, in this folder or, if it is not there, in ``zoo_configs``
    :return: its path
    """
    ours = _own_configs() / name
    return ours if ours.is_file() and not Path(name).is_file() else Path(name)


def read_config(path: Path) -> dict[str, Any]:
    """
    :param path: a YAML file with an entry for each environment
    :return: its entries
    :raises CommandError: if it cannot be read or is something else
    """
    try:
        entries = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"cannot read the hyperparameters in {path}: {one_line(error)}") from error
    if not isinstance(entries, dict):
        raise CommandError(f"{path} must hold a mapping from environments to hyperparameters")
    return entries


def read_entry(path: Path, env_id: str) -> dict[str, Any]:
    """
    :param path: a file that has an entry for the environment, or one by default
    :param env_id: Gymnasium's id
    :return: the hyperparameters
    """
    entries = read_config(path)
    return entries[env_id] if env_id in entries else entries["default"]


def suggestion(name: str, known: Iterable[str]) -> str:
    """
    :param name: what was typed
    :param known: what there is
    :return: the closest of them, in the words that an error ends with; nothing if none is close
    """
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def _restore_time_limit() -> None:
    """
    Importing RL Zoo replaces Gymnasium's ``TimeLimit`` for the whole process by one that writes into ``info``, for the
    sake of versions of Stable-Baselines3 that are long gone. Environments should be the same with and without the zoo.
    """
    for module in (gym.wrappers, gym.wrappers.common, gym.envs.registration):
        if getattr(module, "TimeLimit", None) is PatchedTimeLimit:
            module.TimeLimit = PatchedTimeLimit.__base__  # type: ignore[attr-defined]


def _own_configs() -> Path:
    """:return: the folder ``zoo_configs``: in the package when installed from a wheel, beside it in a checkout"""
    installed = _PACKAGE / "zoo_configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "zoo_configs"


_restore_time_limit()
