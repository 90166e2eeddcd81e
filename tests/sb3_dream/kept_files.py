"""Files of released versions, which every later one has to load. As a program: write the one of this version."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import sb3_dream
from tests.sb3_dream.tiny import MaskedWalk, tiny, vectorized

KEPT = Path(__file__).parent / "kept"
SMALL = {"world_model_kwargs": {"width": 8, "memory": 4}, "actor_critic_kwargs": {"net_arch": [8]}}
LOOKS = np.eye(5, dtype=np.int8)

if __name__ == "__main__":
    model = tiny(vectorized(MaskedWalk, 2), policy_kwargs=SMALL).learn(40)
    model.save(KEPT / f"{sb3_dream.__version__}.zip")
    actions, memory = model.predict(LOOKS, deterministic=True)
    assert memory is not None
    np.savez(KEPT / f"{sb3_dream.__version__}.npz", actions=actions, memory=memory[0])
