"""Saving and loading as in Stable-Baselines3, through files that are safe to read (:mod:`sb3_dream.model_files`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, TensorDict
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info

from sb3_dream.model_files import ModelPath, read_model, require_dream, unfit, write_model
from sb3_dream.policies import DreamPolicy


class SavedAlgorithm(OffPolicyAlgorithm):
    """An off-policy algorithm in model files that run no code."""

    policy: DreamPolicy
    policy_class: type[DreamPolicy]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # of the file that this was loaded from: what the policy is made of, whatever the defaults have become since
        self._sizes: dict[str, Any] = {}

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
        model = cls(policy_class, env, device=device, _init_setup_model=False)
        try:
            _require_attributes(cls, settings)
            vars(model).update(settings | kwargs)
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


def _require_attributes(algorithm: type, settings: dict[str, Any]) -> None:
    """Methods are no settings: a file that names one was edited."""
    for name in settings:
        if callable(getattr(algorithm, name, None)) or isinstance(getattr(algorithm, name, None), property):
            raise ValueError(f"'{name}' is no setting")
