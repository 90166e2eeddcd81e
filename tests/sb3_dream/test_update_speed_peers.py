"""The benchmark of updates beside other Dreamers: those that are installed are timed, the others are named."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from benchmarks import peers, update_speed
from benchmarks.peers import Peer
from benchmarks.update_configs import FIXED
from benchmarks.update_speed import measure_peers, table


def test_a_peer_that_is_missing_gets_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("torchrl", "tensordict", "tensordict.nn"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    assert measure_peers(updates=1, repetitions=1) == []
    line = capsys.readouterr().out
    assert line.startswith("torchrl is not measured") and "pip install --no-deps torchrl" in line
    assert line.count("\n") == 1


def test_a_peer_has_the_best_of_its_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0

    def seconds() -> Iterator[float]:
        yield from (50.0, 3.0, 5.0, 1.0, 1.0, 4.0, 4.0)  # the first update allocates

    durations = seconds()

    def update() -> None:
        nonlocal clock
        clock += next(durations)

    monkeypatch.setattr("benchmarks.update_speed.time.process_time", lambda: clock)
    monkeypatch.setattr(update_speed, "PEERS", {"other": (lambda: Peer("other 1.0", 7, 8, 120, update), "")})
    (result,) = measure_peers(updates=2, repetitions=3)
    assert (result.name, result.parameters, result.replayed, result.imagined) == ("other 1.0", 7, 8, 120)
    assert result.seconds == 1.0 and next(durations, None) is None
    line = table([result], 1e9).splitlines()[1]
    assert line.startswith("other 1.0") and "1000.0" in line


def test_peers_have_the_sizes_of_the_fixed_configuration() -> None:
    assert (FIXED.batch_size, FIXED.sequence_length) == (peers.BATCH, peers.STEPS)
    assert (FIXED.imagination_starts, FIXED.imagination_horizon) == (peers.BATCH * peers.STEPS, peers.HORIZON)
    sizes = {"width": peers.WIDTH, "groups": peers.GROUPS, "classes": peers.CLASSES, "depth": peers.DEPTH}
    assert sizes.items() <= FIXED.world_model_kwargs.items()
    assert peers.BINS == FIXED.world_model_kwargs["reward_bins"] == FIXED.actor_critic_kwargs["critic_bins"]
