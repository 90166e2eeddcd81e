"""Snapshots of vectorized environments, so that a run can go on in the middle of its episodes.

An environment can be snapshotted if it has ``get_state()`` and ``set_state(state)``, either a whole ``VecEnv`` or each
environment in one; ``get_state()`` returns all that the future depends on, random generators included: numbers,
strings, lists, dictionaries, arrays, named tuples and NumPy's generators, since a model file holds no pickles.
Stable-Baselines3's own wrappers and Gymnasium's ``TimeLimit`` are taken care of; any other wrapper with a memory of
its own offers the two methods itself, for all that it wraps.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from sb3_dream.plain_values import decode, encode

_WRAPPERS: dict[type[VecEnvWrapper], tuple[str, ...]] = {
    VecCheckNan: (),
    VecExtractDictObs: (),
    VecFrameStack: ("stacked_obs",),
    VecMonitor: ("episode_returns", "episode_lengths", "episode_count"),
    VecNormalize: ("obs_rms", "ret_rms", "returns"),
    VecTransposeImage: (),
    VecVideoRecorder: (),
}
"""What each wrapper remembers from step to step; one that is not named here may remember anything."""

_INNER_WRAPPERS = ("_elapsed_steps", "rewards", "needs_reset")
"""The same of Gymnasium's ``TimeLimit`` and of ``Monitor``, which wrap each environment."""


def take_snapshot(env: VecEnv) -> str | None:
    """
    :param env: environments between two steps
    :return: all that their future depends on, or None if they, or a wrapper around them, cannot tell
    """
    wrappers, inner = _layers(env)
    if any(type(wrapper) not in _WRAPPERS for wrapper in wrappers) or getattr(inner, "closed", False):
        return None
    try:
        if not _can_tell(inner):
            return None
        remembered = [_remembered(wrapper) for wrapper in wrappers]
        return json.dumps(encode([env.num_envs, remembered, _inner_state(inner)]))
    except Exception as error:  # whatever the environments raise, parameters must be saved
        warnings.warn(f"the environments cannot be saved, and a resumed run resets them: {error!r}", stacklevel=2)
        return None


def restore_snapshot(env: VecEnv, snapshot: str) -> bool:
    """
    :param env: environments of the same kind, which have been reset
    :param snapshot: what :func:`take_snapshot` returned
    :return: whether ``env`` goes on from there; False, with ``env`` as it was, if these are other environments
    :raises ValueError: if the snapshot was edited to change more than what environments remember
    """
    num_envs, remembered, inner_state = decode(json.loads(snapshot))
    wrappers, inner = _layers(env)
    if num_envs != env.num_envs or [type(wrapper).__name__ for wrapper in wrappers] != [name for name, _ in remembered]:
        return False
    if not _can_tell(inner) or isinstance(inner_state, list) != _each_can_tell(inner):
        return False
    for wrapper, (_, attributes) in zip(wrappers, remembered, strict=True):
        _require_known(attributes, _WRAPPERS.get(type(wrapper), ()))
    if isinstance(inner_state, list):
        for _, attributes in inner_state:
            _require_known(attributes, _INNER_WRAPPERS)
        for i, (state, attributes) in enumerate(inner_state):
            inner.env_method("set_state", state, indices=[i])
            for name, value in attributes.items():
                inner.env_method("set_wrapper_attr", name, value, indices=[i])
    else:
        inner.set_state(inner_state)  # type: ignore[attr-defined]
    for wrapper, (_, attributes) in zip(wrappers, remembered, strict=True):
        vars(wrapper).update(attributes)
    return True


def _require_known(attributes: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(set(attributes) - set(known))
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown))} is nothing that wrappers of environments remember")


def _layers(env: VecEnv) -> tuple[list[VecEnvWrapper], VecEnv]:
    """The wrappers, from the outermost, and what they wrap; what can be snapshotted as a whole counts as that."""
    wrappers = []
    while isinstance(env, VecEnvWrapper) and not _whole_can_tell(env):
        wrappers.append(env)
        env = env.venv
    return wrappers, env


def _whole_can_tell(env: VecEnv) -> bool:
    return hasattr(type(env), "get_state") and hasattr(type(env), "set_state")


def _each_can_tell(env: VecEnv) -> bool:
    return not _whole_can_tell(env) and env.has_attr("get_state") and env.has_attr("set_state")


def _can_tell(env: VecEnv) -> bool:
    return _whole_can_tell(env) or _each_can_tell(env)


def _remembered(wrapper: VecEnvWrapper) -> tuple[str, dict[str, Any]]:
    names = _WRAPPERS[type(wrapper)]
    return type(wrapper).__name__, {name: vars(wrapper)[name] for name in names if name in vars(wrapper)}


def _inner_state(env: VecEnv) -> Any:
    if _whole_can_tell(env):
        return env.get_state()  # type: ignore[attr-defined]
    known = [name for name in _INNER_WRAPPERS if env.has_attr(name)]
    attributes = zip(*(env.get_attr(name) for name in known), strict=True) if known else [()] * env.num_envs
    states = env.env_method("get_state")
    return [(state, dict(zip(known, row, strict=True))) for state, row in zip(states, attributes, strict=True)]
