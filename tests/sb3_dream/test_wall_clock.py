"""``benchmarks/wall_clock.py``: what is trained is played as told, and every run that was measured has a row."""

import json
from pathlib import Path

import pytest

from benchmarks import wall_clock
from sb3_dream import zoo

zoo.register()


@pytest.mark.parametrize(("algo", "told"), [("a2c", "-n 80"), ("dream", "-conf quick/dream.yml -n 64")])
def test_an_algorithm_is_measured_and_tabulated(
    algo: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = wall_clock.measure(algo, told, 3, tmp_path / "agents", games=2)
    monkeypatch.setattr(wall_clock, "RESULTS", tmp_path)
    for found in played:
        assert (found["settings"], found["seed"], len(found["returns"])) == (told, 3, 2)
        assert found["training_seconds"] > 0
        (tmp_path / f"{algo}-3-{found['samples']}.json").write_text(json.dumps({"run": algo} | found))
    rows = wall_clock.table().splitlines()[2:]
    ways = ["most likely", "planning"] if algo == "dream" else ["most likely"]
    assert [row.split(" | ")[3] for row in rows] == ways
    assert all(row.startswith(f"| {algo} | {'64' if algo == 'dream' else '80'} | ") for row in rows)
