"""A short soak; ``python benchmarks/soak.py`` is the long one."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch as th

from benchmarks.soak import Sample, problems, soak
from sb3_dream.checkpoints import checkpoints
from sb3_dream.dream import DREAM


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> tuple[DREAM, list[Sample], Path]:
    folder = tmp_path_factory.mktemp("soak")
    return *soak(14_400, folder, samples=16), folder


def test_nothing_grows(soaked: tuple[DREAM, list[Sample], Path]) -> None:
    model, samples, folder = soaked
    assert model._n_updates > 500 and len(samples) >= 14
    assert problems(model, samples) == []
    assert len(checkpoints(folder / "checkpoints")) == 2


def test_growth_would_be_found(soaked: tuple[DREAM, list[Sample], Path]) -> None:
    model, _, _ = soaked
    leaking = [Sample(i, 100.0 + i, 7 + i // 5, 1.0) for i in range(20)]
    assert [problem.split()[0] for problem in problems(model, leaking)] == ["memory", "open"]
    broken = deepcopy(model.policy.state_dict())
    with th.no_grad():
        next(model.policy.parameters()).fill_(float("nan"))
    flat = [Sample(i, 100.0, 7, 1.0) for i in range(20)]
    assert [problem.split(":")[0] for problem in problems(model, flat)] == ["not finite"]
    model.policy.load_state_dict(broken)
