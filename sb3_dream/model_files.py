"""Model files: a zip of weights and of settings as JSON, which is read without running code that the file brings.

The layout is Stable-Baselines3's: ``data`` holds the settings (:mod:`sb3_dream.stored_settings`), ``policy.pth`` and
its like the state dictionaries.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.utils import get_device, get_system_info

from sb3_dream._version import __version__
from sb3_dream.atomic_files import replaced_at_once
from sb3_dream.planning import Planner
from sb3_dream.policies import DreamPolicy, as_saved
from sb3_dream.stored_settings import read_settings, told, trusted, write_settings
from sb3_dream.zip_files import opened

_VERSION = "_sb3_dream_version"
_SYSTEM = "system_info.txt"
_NEEDED = ("policy_class", "observation_space", "action_space", "policy_kwargs")
_PLANNING = ("plan_samples", "plan_horizon", "gamma")  # files of versions without planning lack the first two
_POLICY_SETTINGS = (*_NEEDED, *_PLANNING, "_from_env", "_sizes")

ModelPath = str | os.PathLike[str] | io.BufferedIOBase


@dataclass
class StoredModel:
    """
    What a model file holds.

    :param settings: attributes of the algorithm
    :param parameters: state dictionaries by the name of what they belong to
    """

    settings: dict[str, Any]
    parameters: dict[str, Any]


def write_model(path: ModelPath, settings: dict[str, Any], parameters: dict[str, Any]) -> None:
    """
    Write a model file, all of it or nothing: what was there before stays until the new one is complete.

    :param path: a file; ".zip" is added where there is no suffix, and missing folders are made. Or an open file
    :param settings: attributes of the algorithm
    :param parameters: state dictionaries by name
    """
    text = write_settings(settings)
    target: Any
    if isinstance(path, (str, os.PathLike)):
        path = Path(path)
        target = replaced_at_once(path if path.suffix else path.with_name(f"{path.name}.zip"))
    else:
        target = nullcontext(open_path(path, "w"))
    with target as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", text)
        for name, state in parameters.items():
            with archive.open(f"{name}.pth", "w", force_zip64=True) as part:
                th.save(state, part)
        archive.writestr("_stable_baselines3_version", sb3.__version__)
        archive.writestr(_VERSION, __version__)
        archive.writestr(_SYSTEM, get_system_info(print_info=False)[1])


def read_model(
    path: ModelPath,
    device: th.device | str = "auto",
    custom_objects: dict[str, Any] | None = None,
    trust: bool | None = None,
    only: Iterable[str] | None = None,
    print_system_info: bool = False,
) -> StoredModel:
    """
    :param path: a file that :func:`write_model` wrote; ".zip" may be left out. Or an open file
    :param device: for the parameters
    :param custom_objects: settings by name, which take the place of those in the file
    :param trust: unpickle what the file holds pickled, which can run any code; None for what the environment variable
        ``SB3_DREAM_TRUST_MODELS`` says (``1`` to trust)
    :param only: names of the settings to read; None for all
    :param print_system_info: print the versions with which it was written
    :return: what it holds
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if it is damaged, no model of DREAM, or would have to be trusted
    """
    source = _existing(Path(path)) if isinstance(path, (str, os.PathLike)) else open_path(path, "r")
    device = get_device(device)
    try:
        with opened(source) as archive:
            members = archive.namelist()
            text = archive.read("data")
            states = {member[:-4]: archive.read(member) for member in members if member.endswith(".pth")}
            parameters = {name: _state(content, device) for name, content in states.items()}
            system = archive.read(_SYSTEM).decode() if _SYSTEM in members else "not known"
    except Exception as error:  # whatever reading a wrong file may raise
        raise _damaged(path, told(error)) from error
    if _VERSION not in members and not trusted(trust):
        raise _damaged(path, "another program wrote it")
    if print_system_info:
        print(f"== SAVED MODEL SYSTEM INFO ==\n{system}")
    return StoredModel(read_settings(text, _name(path), custom_objects, trust, only), parameters)


def load_policy(path: ModelPath, device: th.device | str = "auto", trust: bool | None = None) -> DreamPolicy:
    """
    :param path: a file that ``DREAM.save`` wrote; ".zip" may be left out
    :param device: where the policy is to run
    :param trust: see :func:`read_model`
    :return: the policy, in evaluation mode
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if it is damaged, no model of DREAM, or would have to be trusted
    """
    device = get_device(device)
    stored = read_model(path, device, trust=trust, only=_POLICY_SETTINGS)
    parts = stored.settings
    policy_class = require_dream(path, parts)
    spaces = parts["observation_space"], parts["action_space"]
    try:
        kwargs = (parts.get("_from_env") or {}) | parts["policy_kwargs"] | as_saved(parts.get("_sizes", {}))
        policy = policy_class(*spaces, lr_schedule=policy_class._dummy_schedule, **kwargs).to(device)
        policy.load_state_dict(stored.parameters["policy"])
        if parts.get("plan_samples"):
            policy.planner = Planner(*(parts[name] for name in _PLANNING))
    except Exception as error:  # whatever wrong settings may raise
        raise unfit(path, error) from error
    policy.set_training_mode(False)
    return policy.requires_grad_(False)


def require_dream(path: ModelPath, settings: dict[str, Any]) -> type[DreamPolicy]:
    """
    :param path: the file, for the message
    :param settings: what it holds
    :return: the class of its policy
    :raises ValueError: if it is the model of another algorithm, or lacks what every model has
    """
    missing = [name for name in _NEEDED if name not in settings]
    if missing:
        raise _damaged(path, f"it has no {', '.join(missing)}")
    policy_class = settings["policy_class"]
    if not (isinstance(policy_class, type) and issubclass(policy_class, DreamPolicy)):
        raise ValueError(
            f"{_name(path)} is a model of another algorithm: its policy is {policy_class!r}, not one of DREAM's"
        )
    return policy_class


def unfit(path: ModelPath, error: Exception) -> ValueError:
    """
    :param path: the file
    :param error: what building its model raised
    :return: the error to raise instead
    """
    return ValueError(f"{_name(path)}: the settings and the weights do not fit this version: {told(error)}")


def _damaged(path: ModelPath, why: str) -> ValueError:
    return ValueError(f"{_name(path)} is not a saved DREAM model, or it is damaged: {why}")


def _name(path: ModelPath) -> str:
    return str(path) if isinstance(path, (str, os.PathLike)) else "the file"


def _existing(path: Path) -> Path:
    for file in (path, path.with_name(path.name + ".zip")):
        if file.is_file():
            return file
    raise FileNotFoundError(f"there is no saved model {path}" + ("" if path.suffix == ".zip" else f" or {path}.zip"))


def _state(content: bytes, device: th.device) -> Any:
    with opened(io.BytesIO(content)):
        pass
    return th.load(io.BytesIO(content), map_location=device, weights_only=True)
