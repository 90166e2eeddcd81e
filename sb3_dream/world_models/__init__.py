"""World models behind one interface, :class:`sb3_dream.world_models.base.WorldModel`."""

from __future__ import annotations

from typing import Any

from sb3_dream.spaces import ActionSpec, ObservationSpec
from sb3_dream.world_models.base import WorldModel
from sb3_dream.world_models.compact import CompactWorldModel
from sb3_dream.world_models.recurrent import RecurrentWorldModel
from sb3_dream.world_models.rssm import RSSMWorldModel

__all__ = [
    "WORLD_MODELS",
    "CompactWorldModel",
    "RSSMWorldModel",
    "RecurrentWorldModel",
    "WorldModel",
    "make_world_model",
]

WORLD_MODELS: dict[str, type[WorldModel]] = {
    "recurrent": RecurrentWorldModel,
    "rssm": RSSMWorldModel,
    "compact": CompactWorldModel,
}
"""The names that ``policy_kwargs=dict(world_model=...)`` knows."""


def make_world_model(
    world_model: str | type[WorldModel],
    observation_spec: ObservationSpec,
    action_spec: ActionSpec,
    mask_size: int | None = None,
    **kwargs: Any,
) -> WorldModel:
    """
    :param world_model: a name of :data:`WORLD_MODELS`, or a subclass of :class:`WorldModel`
    :param observation_spec: what the observations are
    :param action_spec: what the actions are
    :param mask_size: number of action-mask bits, or None where the environment has no masks
    :param kwargs: the world model's own arguments
    :raises ValueError: for a name that no world model has
    :raises TypeError: for anything that is neither a name nor a world model's class
    """
    if isinstance(world_model, str):
        if world_model not in WORLD_MODELS:
            known = ", ".join(repr(name) for name in WORLD_MODELS)
            raise ValueError(f"unknown world model {world_model!r}: expected {known} or a subclass of WorldModel")
        world_model = WORLD_MODELS[world_model]
    elif not (isinstance(world_model, type) and issubclass(world_model, WorldModel)):
        raise TypeError(f"a world model is a name or a subclass of WorldModel, not {world_model!r}")
    return world_model(observation_spec, action_spec, mask_size, **kwargs)
