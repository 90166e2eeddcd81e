"""Reading a policy out of a saved model, without the training code and without running code that the file brings.

Stable-Baselines3 stores a model as a zip: the settings as JSON, where what JSON cannot hold is pickled, and the
weights. Unpickling can run any code. Here only spaces, arrays and this package's own classes are unpickled.
"""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import get_device

from sb3_dream.policies import DreamPolicy
from sb3_dream.world_models import WorldModel

_SETTINGS = ("policy_class", "observation_space", "action_space", "policy_kwargs", "_from_env")
_ARRAYS = {
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor"},
    "numpy.random._pcg64": {"PCG64"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
    "collections": {"OrderedDict"},
}
_CLASSES = {
    "gymnasium.spaces": spaces.Space,
    "sb3_dream.policies": DreamPolicy,
    "sb3_dream.world_models": WorldModel,
    "torch.optim": th.optim.Optimizer,
}


def load_policy(path: str | os.PathLike[str], device: th.device | str = "auto", trust: bool = False) -> DreamPolicy:
    """
    :param path: a file that ``DREAM.save`` wrote; ".zip" may be left out
    :param device: where the policy is to run
    :param trust: unpickle whatever the file holds, for models with a world model or a policy of one's own. Only for
        files whose origin is known: unpickling can run any code
    :return: the policy, in evaluation mode
    :raises FileNotFoundError: if there is no such file
    :raises ValueError: if it is damaged, no model of DREAM, or would have to be trusted
    """
    file = _existing(Path(path))
    device = get_device(device)
    try:
        with zipfile.ZipFile(file) as archive:
            settings = json.loads(archive.read("data"))
            with archive.open("policy.pth") as stored:
                weights = th.load(io.BytesIO(stored.read()), map_location=device, weights_only=True)
        wanted = {key: settings[key] for key in _SETTINGS}
    except Exception as error:  # whatever reading a wrong file may raise
        raise ValueError(f"{file} is not a saved DREAM model, or it is damaged: {_told(error)}") from error
    parts = {key: _decoded(item, f"{file}: {key}", trust) for key, item in wanted.items()}
    policy_class, kwargs = parts.pop("policy_class"), (parts.pop("_from_env") or {}) | parts.pop("policy_kwargs")
    if not (isinstance(policy_class, type) and issubclass(policy_class, DreamPolicy)):
        raise ValueError(f"{file} is a model of another algorithm: its policy is {policy_class!r}, not one of DREAM's")
    try:
        policy = policy_class(**parts, lr_schedule=policy_class._dummy_schedule, **kwargs).to(device)
        policy.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{file}: the settings and the weights do not fit this version: {_told(error)}") from error
    policy.set_training_mode(False)
    return policy.requires_grad_(False)


def _existing(path: Path) -> Path:
    for file in (path, path.with_name(path.name + ".zip")):
        if file.is_file():
            return file
    raise FileNotFoundError(f"there is no saved model {path}" + ("" if path.suffix == ".zip" else f" or {path}.zip"))


def _decoded(item: Any, name: str, trust: bool) -> Any:
    """What Stable-Baselines3 wrote under a key: plain JSON, or a pickle in it."""
    if not (isinstance(item, dict) and ":serialized:" in item):
        return item
    try:
        pickled = base64.b64decode(item[":serialized:"])
        return cloudpickle.loads(pickled) if trust else _Unpickler(io.BytesIO(pickled)).load()
    except _Refused as error:
        raise ValueError(
            f"{name} needs {error}: it is a model of another algorithm, or brings code of its own. If you know where "
            "the file comes from, and only then, pass trust=True"
        ) from None
    except Exception as error:  # whatever unpickling damaged bytes may raise
        raise ValueError(f"{name} cannot be read: {_told(error)}") from error


class _Refused(Exception):
    """Names what a pickle asked for."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in _ARRAYS.get(module, ()):
            return super().find_class(module, name)
        for package, base in _CLASSES.items():
            if f"{module}.".startswith(f"{package}.") and "." not in name:
                found = super().find_class(module, name)
                if isinstance(found, type) and issubclass(found, base):
                    return found
        raise _Refused(f"{module}.{name}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
