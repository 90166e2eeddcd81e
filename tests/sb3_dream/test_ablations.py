"""``benchmarks/ablations.py``: each variant is what it says, and every one that was measured has a row."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablations
from sb3_dream import DREAM


def test_a_variant_is_measured_and_tabulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ablations.measure("no masks", 3, tmp_path / "run", steps=40, games=2)
    assert found is not None
    assert (found["variant"], found["seed"], found["steps"], len(found["returns"])) == ("no masks", 3, 40, 2)
    agent = DREAM.load(tmp_path / "run" / "dream" / "TetrisPlacement-v0_1" / "TetrisPlacement-v0.zip")
    assert agent.use_masking is False
    (tmp_path / "no-masks-3.json").write_text(json.dumps(found))
    monkeypatch.setattr(ablations, "RESULTS", tmp_path)
    (row,) = ablations.table().splitlines()[2:]
    assert row.startswith("| no masks | `use_masking:False` | ")


def test_without_states_every_sequence_begins_with_an_empty_memory(tmp_path: Path) -> None:
    assert ablations.measure("no stored states", 0, tmp_path / "run", steps=40, games=2) is not None
    kept, empty = (
        DREAM("TetrisPlacement-v0", replay_buffer_class=buffer, learning_starts=20, model_warmup=4, seed=0).learn(40)
        for buffer in (None, ablations.WithoutStates)
    )
    assert np.any(kept.replay_buffer.sample_sequences(16, 8).memory.numpy())
    assert not np.any(empty.replay_buffer.sample_sequences(16, 8).memory.numpy())
    assert empty._n_updates == kept._n_updates > 0
