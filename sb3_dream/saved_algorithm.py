"""Saving and loading as in Stable-Baselines3, through files that are safe to read (:mod:`sb3_dream.model_files`)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, TensorDict
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info
from stable_baselines3.common.vec_env import VecEnv

from sb3_dream.arguments import check_hyperparameters
from sb3_dream.checkpoints import MODEL, newest_checkpoint, rank_folder, replay_files, write_checkpoint
from sb3_dream.model_files import ModelPath, read_model, require_dream, unfit, write_model
from sb3_dream.policies import DreamPolicy, as_saved
from sb3_dream.replay import SequenceReplayBuffer
from sb3_dream.replay_files import ReplayChain, ReplayPath, read_replay, write_replay

_NEVER_SAVED = frozenset(
    ("policy", "replay_buffer", "device", "_logger", "_vec_normalize_env", "_chain", "_stream", "_dreams", "_memory")
)
_COUNTERS = ("num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_episode_num", "_n_updates", "n_envs")
_NOTHING = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_COUNTERS, (int,)),
    "_owed_updates": (int, float),
    "verbose": (int,),
    "tensorboard_log": (str, _NOTHING),
    "ep_info_buffer": (deque, _NOTHING),
    "ep_success_buffer": (deque, _NOTHING),
    "env": (VecEnv, _NOTHING),
}


class SavedAlgorithm(OffPolicyAlgorithm):
    """An off-policy algorithm in model files that run no code."""

    policy: DreamPolicy
    policy_class: type[DreamPolicy]
    replay_buffer: SequenceReplayBuffer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # of the file that this was loaded from: what the policy is made of, whatever the defaults have become since
        self._sizes: dict[str, Any] = {}
        self._chain: ReplayChain | None = None  # of the folder of checkpoints in use

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_chain"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.world_model_optimizer", "policy.actor_critic_optimizer"], []

    def save(
        self,
        path: ModelPath,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save everything but the replay buffer (see ``save_replay_buffer``) in a zip file.

        :param path: of the file, or an open one; ".zip" is added where there is no suffix. It replaces what was there
            once it is complete
        :param exclude: names of attributes to leave out
        :param include: names of attributes that would be left out, but should not
        """
        excluded = {*self._excluded_save_params(), *(exclude or ())} - set(include or ()) | {"policy"}
        settings = {name: value for name, value in vars(self).items() if name not in excluded}
        write_model(path, settings | {"_sizes": self.policy.sizes()}, self.get_parameters())

    @classmethod
    def load(
        cls,
        path: ModelPath,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        trust: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """
        :param path: a file that :meth:`save` wrote; ".zip" may be left out. Or an open file
        :param env: environments to go on in; None if the model is only to predict
        :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
        :param custom_objects: attributes that replace those of the file, which are then not even read
        :param print_system_info: print the versions that wrote the file, and those in use
        :param force_reset: reset ``env`` before training; a resumed run puts back its environments all the same
        :param trust: unpickle what the file holds pickled, such as classes and functions of one's own. Only for files
            whose origin is known, since that can run any code; None for what the environment variable
            ``SB3_DREAM_TRUST_MODELS`` says (``1`` to trust)
        :param kwargs: attributes to change
        :return: the model
        :raises FileNotFoundError: if there is no such file
        :raises ValueError: if it is damaged, of another algorithm, or would have to be trusted; or if ``env`` or
            ``policy_kwargs`` are others than those of the file
        """
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
        stored = read_model(path, device, custom_objects, trust, print_system_info=print_system_info)
        settings = stored.settings
        policy_class = require_dream(path, settings)
        if kwargs.get("policy_kwargs", settings["policy_kwargs"]) != settings["policy_kwargs"]:
            raise ValueError(
                f"the policy_kwargs of a saved model cannot be changed: they are {settings['policy_kwargs']}, not "
                f"{kwargs['policy_kwargs']}"
            )
        if env is None:
            env = settings.get("env")
        else:
            env = cls._wrap_env(env, settings.get("verbose", 0))
            check_for_correct_spaces(env, settings["observation_space"], settings["action_space"])
            settings["n_envs"] = env.num_envs
            if force_reset:
                settings["_last_obs"] = None
        try:
            model = cls(policy_class, env, device=device, _init_setup_model=False)
            _require_settings(model, settings)
            vars(model).update(settings | kwargs)
            model._sizes = as_saved(model._sizes)
            check_hyperparameters(model)
            model._setup_model()
            model.set_parameters(stored.parameters, device=device)
        except Exception as error:  # whatever wrong settings may raise
            raise unfit(path, error) from error
        return model

    def set_parameters(
        self, load_path_or_dict: str | TensorDict, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """
        :param load_path_or_dict: a file that :meth:`save` wrote, or what ``get_parameters`` returned
        :param exact_match: whether the parameters of every part must be there
        :param device: where to load them
        """
        if not isinstance(load_path_or_dict, dict):
            load_path_or_dict = read_model(load_path_or_dict, device, only=()).parameters
        super().set_parameters(load_path_or_dict, exact_match, device)

    def save_replay_buffer(self, path: ReplayPath) -> None:
        """
        :param path: of a file, or an open one; ".pkl" is added where there is no suffix
        """
        write_replay(path, self.replay_buffer)

    def load_replay_buffer(self, path: ReplayPath, truncate_last_traj: bool = True) -> None:
        """
        :param path: file of :meth:`save_replay_buffer`; a buffer of another number of environments is dealt out anew
        :param truncate_last_traj: not needed: ``learn`` cuts the unfinished episodes if it resets the environments
        :raises ValueError: if it is damaged, no sequence replay buffer, or one of another model
        """
        self._take_replay_buffer(read_replay(path, self._make_stored_buffer))

    def _make_replay_buffer(self, buffer_size: int | None = None, n_envs: int | None = None) -> SequenceReplayBuffer:
        raise NotImplementedError

    def _make_stored_buffer(self, buffer_size: int, n_envs: int) -> SequenceReplayBuffer:
        before = np.random.get_state()  # a new buffer draws its seed, for nothing: the file brings a generator
        try:
            return self._make_replay_buffer(buffer_size, n_envs)
        finally:
            np.random.set_state(before)

    def _take_replay_buffer(self, buffer: SequenceReplayBuffer) -> None:
        if buffer.n_envs != self.n_envs:
            buffer.resize_envs(self.n_envs)
        self.replay_buffer = buffer

    def save_checkpoint(self, folder: str | os.PathLike[str], keep: int | None = None) -> Path:
        """
        Save all that a run needs to go on: the model, and what is new in its replay buffer. Each checkpoint is there
        completely or not at all, whenever the process stops.

        :param folder: of the run's checkpoints; made if it is missing. One run alone may write to it at a time, each
            of its ranks in a folder of its own there
        :param keep: how many of the newest checkpoints stay; None for all
        :return: the new checkpoint, a folder in it
        """
        folder = rank_folder(Path(folder))
        if self._chain is None or self._chain.folder != folder:
            self._chain = ReplayChain(folder)
        return write_checkpoint(self, self._chain, keep)

    @classmethod
    def load_checkpoint(
        cls, folder: str | os.PathLike[str], env: GymEnv | None = None, device: th.device | str = "auto", **kwargs: Any
    ) -> Self:
        """
        :param folder: where :meth:`save_checkpoint` saved, for the newest of its checkpoints; or one of those
        :param env: environments to go on in; None if the model is only to predict
        :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
        :param kwargs: see :meth:`load`
        :return: the model with its replay buffer. ``learn(..., reset_num_timesteps=False)`` goes on
        :raises FileNotFoundError: if there is no checkpoint
        :raises ValueError: see :meth:`load`
        """
        checkpoint = newest_checkpoint(Path(folder))
        model = cls.load(checkpoint / MODEL, env, device, **kwargs)
        chain = ReplayChain(checkpoint.parent)
        model._take_replay_buffer(chain.load(replay_files(checkpoint), model._make_stored_buffer))
        model._chain = chain
        return model


def _require_settings(model: SavedAlgorithm, settings: dict[str, Any]) -> None:
    """Methods are no settings, nor is what is never saved, and a counter is a number: else, the file was edited."""
    for name, value in settings.items():
        of_class = getattr(type(model), name, None)
        if callable(of_class) or isinstance(of_class, property) or name.startswith("__") or name in _NEVER_SAVED:
            raise ValueError(f"'{name}' is no setting")
        kinds = _KINDS.get(name)
        if kinds is not None and not (isinstance(value, kinds) and not isinstance(value, bool)):
            raise ValueError(f"{name} cannot be {type(value).__name__}")
