"""The benchmark of updates: its phases are those of an update, all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch as th

from benchmarks.update_configs import CONFIGS, FIXED
from benchmarks.update_speed import PHASES, Timer, fastest_product, measure, table


def test_every_phase_is_found() -> None:
    small = {"width": 16, "hidden": 16, "memory": 32, "groups": 2, "classes": 4, "reward_bins": 7}
    config = replace(FIXED, world_model_kwargs=small, batch_size=2, sequence_length=4, imagination_starts=4)
    result = measure("small", replace(config, policy_delay=2), updates=1, repetitions=1)
    assert all(result.phases[phase] > 0 for phase in PHASES)
    assert sum(result.phases.values()) == pytest.approx(result.seconds)
    assert (result.replayed, result.imagined) == (8, 30)
    assert set(result.act_ms) == {1, 8}
    computing = {"model forward", "model backward", "imagination", "actor-critic"}
    assert all(result.operations[phase] > 0 for phase in computing) and not result.operations["replay"]
    assert result.peak_memory is None or result.peak_memory > 10**7
    assert result.replay_row_float32 - result.replay_row == 212 * 4 - 27  # 212 bits in 27 bytes
    assert "small" in table([result], fastest_product(th.float32, 64))


def test_nested_phases_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("benchmarks.update_speed.time.process_time", lambda: float(next(clock)))
    timer = Timer()
    with timer.phase("outer"):
        timer.around(lambda: timer.around(lambda: None, "inner")(), "middle")()
        timer.around(lambda: None, "inner", inside="outer")()
    # a second passes from each beginning or end to the next
    assert timer.passed == {"outer": 4.0, "middle": 2.0, "inner": 1.0}


def test_fixed_configuration_has_its_size() -> None:
    assert CONFIGS["fixed"].batch_size * CONFIGS["fixed"].sequence_length == FIXED.imagination_starts == 1024
