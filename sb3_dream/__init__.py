"""DREAM for Stable-Baselines3: a world model learns the environment, the policy learns in the world model.

Names are imported when they are first used: ``from sb3_dream import DREAMAgent`` loads no training code.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sb3_dream._version import __version__

if TYPE_CHECKING:
    from sb3_dream.agent import DREAMAgent
    from sb3_dream.callbacks import CurriculumCallback, Stage, TrainingMonitor
    from sb3_dream.checkpoints import CheckpointCallback
    from sb3_dream.config import DREAMConfig
    from sb3_dream.dream import DREAM
    from sb3_dream.history import TrainingHistory
    from sb3_dream.plots import plot_training_progress
    from sb3_dream.policies import CnnPolicy, DreamPolicy, MlpPolicy, MultiInputPolicy
    from sb3_dream.replay import SequenceReplayBuffer
    from sb3_dream.world_models import CompactWorldModel, RecurrentWorldModel, RSSMWorldModel
    from sb3_dream.world_models.base import Observed, Outcome, Sequences, State, WorldModel

__all__ = [
    "DREAM",
    "CheckpointCallback",
    "CnnPolicy",
    "CompactWorldModel",
    "CurriculumCallback",
    "DREAMAgent",
    "DREAMConfig",
    "DreamPolicy",
    "MlpPolicy",
    "MultiInputPolicy",
    "Observed",
    "Outcome",
    "RSSMWorldModel",
    "RecurrentWorldModel",
    "SequenceReplayBuffer",
    "Sequences",
    "Stage",
    "State",
    "TrainingHistory",
    "TrainingMonitor",
    "WorldModel",
    "__version__",
    "plot_training_progress",
]

_MODULES = {
    "agent": ("DREAMAgent",),
    "callbacks": ("CurriculumCallback", "Stage", "TrainingMonitor"),
    "checkpoints": ("CheckpointCallback",),
    "config": ("DREAMConfig",),
    "dream": ("DREAM",),
    "history": ("TrainingHistory",),
    "plots": ("plot_training_progress",),
    "policies": ("CnnPolicy", "DreamPolicy", "MlpPolicy", "MultiInputPolicy"),
    "replay": ("SequenceReplayBuffer",),
    "world_models": ("CompactWorldModel", "RSSMWorldModel", "RecurrentWorldModel"),
    "world_models.base": ("Observed", "Outcome", "Sequences", "State", "WorldModel"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
