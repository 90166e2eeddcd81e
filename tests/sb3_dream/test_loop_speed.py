"""The benchmark of the whole loop counts what it is about."""

from __future__ import annotations

import pytest

from benchmarks.loop_speed import PHASES, measure, setting, table
from tests.sb3_dream.tiny import NETWORKS


@pytest.mark.parametrize(("delay", "overlap"), [(0.0, False), (0.001, True)])
def test_all_time_belongs_to_a_phase_and_all_steps_are_counted(delay: float, overlap: bool) -> None:
    small = {"policy_kwargs": NETWORKS, "batch_size": 2, "sequence_length": 4, "imagination_starts": 4}
    result = measure("CartPole-v1", 2, 40, delay, learning_starts=16, train_ratio=2.0, overlap_updates=overlap, **small)
    assert (result.steps, result.updates) == (40, 10)
    assert set(result.phases) == {*PHASES, "rest"}
    assert all(seconds > 0 for seconds in result.phases.values())
    assert sum(result.phases.values()) == pytest.approx(result.cpu)
    head, line = table([result]).splitlines()
    assert len(head.split()) == len(line.split())


def test_settings_are_read_as_python_writes_them() -> None:
    assert setting("train_ratio=None") == ("train_ratio", None)
    assert setting("policy_kwargs={'world_model': 'rssm'}") == ("policy_kwargs", {"world_model": "rssm"})
