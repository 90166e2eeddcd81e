"""``benchmarks/quick_fixed.py``: both configurations make as many updates, and each has a row."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import quick_fixed
from sb3_dream.config import DREAMConfig


def test_configurations_are_measured_and_tabulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = DREAMConfig(world_model="rssm", policy_delay=40, n_epochs=1, n_minibatches=1)
    small = replace(small, batch_size=4, sequence_length=16, imagination_starts=8, learning_starts=50, model_warmup=0)
    monkeypatch.setattr(quick_fixed, "CONFIGS", {"fixed": small, "fixed, quick": replace(small, imagination_starts=4)})
    monkeypatch.setattr(quick_fixed, "RESULTS", tmp_path)
    for name in quick_fixed.RUNS:
        found = quick_fixed.measure(name, 3, steps=60, games=2)
        assert [point["steps"] for point in found["points"]] == list(range(6, 61, 6))
        assert {len(point["games"]["returns"]) for point in found["points"]} == {2}
        assert found["updates"] == 40
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    rows = quick_fixed.table().splitlines()[2:]
    assert [row.split(" | ")[:3] for row in rows] == [["| `fixed`", "60", "40"], ["| `fixed, quick`", "60", "40"]]
