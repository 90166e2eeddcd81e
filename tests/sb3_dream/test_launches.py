"""The benchmark of operations: it counts what is started, not what is a view."""

from __future__ import annotations

from dataclasses import replace

import torch as th

from benchmarks.launches import Operations, launches
from benchmarks.update_configs import FIXED


def test_operations_are_counted_and_views_are_not() -> None:
    x = th.ones(2, 3)
    with Operations() as operations:
        y = x.t()[0] + 1  # one
        y.mul_(2)  # two
        th.addmm(x, x[:, :2], x, out=th.empty(2, 3))  # a new tensor, and four
    assert operations.count == 4


def test_recordings_leave_a_fraction_of_the_operations() -> None:
    small = {"width": 16, "hidden": 16, "memory": 32, "groups": 2, "classes": 4, "reward_bins": 7}
    config = replace(FIXED, world_model_kwargs=small, batch_size=2, sequence_length=4, imagination_starts=4)
    alone, recorded = (launches(config, recorded, updates=1) for recorded in (False, True))
    assert 50 < recorded < alone / 5
