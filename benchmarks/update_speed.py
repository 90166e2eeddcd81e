"""Seconds of CPU that an update of DREAM takes, phase by phase, and milliseconds that it takes to act.

    taskset -c 0 python benchmarks/update_speed.py --json update_speed.json
    python benchmarks/update_speed.py default fixed

``benchmarks/update_configs.py`` has the configurations. An update is one of the world model; where the actor and the
critic learn at every fourth only, a quarter of theirs is counted. All times are CPU times, by default of one thread,
and of the best of several repetitions, so that other work on the machine disturbs the figures less.

In brackets behind the milliseconds of a phase: the speed of its matrix products, as a share of the fastest one that
was measured in the same run, in float32. All else that a phase does counts as time in which it multiplies nothing.

With ``fixed``, a line follows for each other Dreamer of ``benchmarks/peers.py`` that is installed, at the same sizes:
its whole update, without phases.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch as th
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import sb3_dream.dream
from sb3_dream.config import DREAMConfig
from sb3_dream.dream import DREAM
from sb3_dream.nn.wide_products import wide_products

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script finds what lies in its own folder only
from benchmarks.env_speed import processor
from benchmarks.peers import PEERS, Peer
from benchmarks.update_configs import CONFIGS, ready, whole

PHASES = ("replay", "model forward", "model backward", "imagination", "actor-critic", "optimiser", "rest")


@dataclass
class Result:
    """
    What was measured of one configuration, or of a peer.

    :param name: of the configuration, or of the peer
    :param parameters: that are learned
    :param replayed: rows an update
    :param imagined: steps an update, on average
    :param seconds: of CPU an update
    :param phases: the same by phase; none of a peer
    :param operations: floating-point operations of the matrix products of each phase; none of a peer
    :param act_ms: milliseconds of CPU to act, by number of environments; none of a peer
    :param peak_memory: bytes that the process held at most while it made updates; None where the system does not say
    :param replay_row: bytes that a step takes in the replay buffer; None of a peer
    :param replay_row_float32: the same with observations in float32
    """

    name: str
    parameters: int
    replayed: int
    imagined: int
    seconds: float
    phases: dict[str, float]
    operations: dict[str, float]
    act_ms: dict[int, float]
    peak_memory: int | None
    replay_row: float | None
    replay_row_float32: float | None


class Timer:
    """What passes in nested phases, each without those inside it.

    :param clock: what it is that passes; seconds of CPU when None
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.passed: dict[str, float] = defaultdict(float)
        self.open: list[str] = []
        self._clock = clock or time.process_time
        self._since = 0.0

    def _lap(self) -> None:
        now = self._clock()
        if self.open:
            self.passed[self.open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside the ``with`` block as this phase."""
        self._lap()
        self.open.append(name)
        try:
            yield
        finally:
            self._lap()
            self.open.pop()

    def around(self, function: Callable[..., Any], name: str, inside: str | None = None) -> Callable[..., Any]:
        """
        :param function: any
        :param name: the phase that its calls are
        :param inside: a phase inside which they are not one of their own
        :return: the same function, timed
        """

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name if inside not in self.open else str(inside)):
                return function(*args, **kwargs)

        return timed


@contextmanager
def timed_phases(model: DREAM, timer: Timer) -> Iterator[None]:
    """Time a model's updates inside the ``with`` block, whatever they are made of."""
    policy, replay = model.policy, model.replay_buffer
    places: list[tuple[Any, str, str, str | None]] = [
        (replay, "sample_sequences", "replay", None),
        (replay, "update_memory", "replay", None),
        (policy, "encode_sequences", "replay", None),
        (policy.world_model, "observe", "model forward", None),
        (policy.world_model, "observe_rewarded", "model forward", None),
        (sb3_dream.dream, "imagine", "imagination", None),
        (model, "_train_actor_critic", "actor-critic", None),
        (th.Tensor, "backward", "model backward", "actor-critic"),
        (nn.utils, "clip_grad_norm_", "optimiser", None),
        (policy.world_model_optimizer, "step", "optimiser", None),
        (policy.actor_critic_optimizer, "step", "optimiser", None),
    ]
    with ExitStack() as stack:
        for owner, attribute, name, inside in places:
            stack.enter_context(patch.object(owner, attribute, timer.around(getattr(owner, attribute), name, inside)))
        yield


def measure(name: str, config: DREAMConfig, updates: int, repetitions: int) -> Result:
    """
    :param name: of the configuration
    :param config: the configuration
    :param updates: of each repetition, at least, see :func:`~benchmarks.update_configs.whole`
    :param repetitions: the best counts
    """
    model, updates = ready(config), whole(updates, config)
    model.train(updates, model.batch_size)  # the first ones allocate

    def update(timer: Timer) -> dict[str, float]:
        with timed_phases(model, timer), timer.phase("rest"):
            model.train(updates, model.batch_size)
        return {phase: timer.passed[phase] / updates for phase in PHASES}

    laps = [update(Timer()) for _ in range(repetitions)]
    forget_peak_memory()
    model.train(updates, model.batch_size)
    memory = peak_memory()
    with FlopCounterMode(display=False, custom_mapping={th.ops.aten.addmm_: count_addmm}) as counter:
        operations = update(Timer(counter.get_total_flops))
    best = min(laps, key=lambda lap: sum(lap.values()))
    imagined = model.imagination_horizon * model.imagination_starts
    learned = [*model.policy.world_model.parameters(), *model.policy.actor_critic.parameters()]
    return Result(
        name,
        sum(parameter.numel() for parameter in learned if parameter.requires_grad),
        model.batch_size * model.sequence_length,
        round(imagined / model.policy_delay),
        sum(best.values()),
        best,
        operations,
        {n_envs: milliseconds_to_act(model, n_envs, repetitions) for n_envs in (1, 8)},
        memory,
        *replay_row_nbytes(model),
    )


def measure_peer(peer: Peer, updates: int, repetitions: int) -> Result:
    """
    :param peer: another Dreamer
    :param updates: of each repetition
    :param repetitions: the best counts
    """
    peer.update()  # the first one allocates
    laps = []
    forget_peak_memory()
    for _ in range(repetitions):
        begun = time.process_time()
        for _ in range(updates):
            peer.update()
        laps.append((time.process_time() - begun) / updates)
    return Result(
        peer.name, peer.parameters, peer.replayed, peer.imagined, min(laps), {}, {}, {}, peak_memory(), None, None
    )


def measure_peers(updates: int, repetitions: int) -> list[Result]:
    """
    :param updates: of each repetition
    :param repetitions: the best counts
    :return: of the peers that are installed; a line is printed for each that is not
    """
    results = []
    for package, (build, install) in PEERS.items():
        try:
            peer = build()
        except ImportError as error:
            print(f"{package} is not measured, it cannot be imported ({error}): {install}")
        else:
            results.append(measure_peer(peer, updates, repetitions))
    return results


def count_addmm(into: Any, first: Any, second: Any, **_: Any) -> int:
    """
    :return: operations of ``addmm_``, which PyTorch does not count by itself
    """
    return 2 * first[0] * first[1] * second[1]


def replay_row_nbytes(model: DREAM) -> tuple[float, float]:
    """
    :return: bytes that a step takes in the replay buffer, and would take with observations in float32
    """
    buffer = model.replay_buffer
    row, values = buffer.nbytes / (buffer.n_envs * buffer.buffer_size), int(np.prod(model.observation_space.shape))
    stored = sum(column.row_nbytes for column in buffer._rows.observations.values())
    return row, row - stored + 4 * values


def forget_peak_memory() -> None:
    """From here on :func:`peak_memory` counts, on Linux."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """
    :return: bytes of memory that this process held at most; None on systems other than Linux
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None


def fastest_product(dtype: th.dtype, size: int = 1024, repetitions: int = 20) -> float:
    """
    :param dtype: of the matrices
    :param size: their rows and columns
    :param repetitions: the best counts
    :return: floating-point operations a second of CPU of a matrix product
    """
    matrix, seconds = th.rand(size, size).to(dtype), []
    with wide_products():  # as in updates
        for _ in range(repetitions):
            begun = time.process_time()
            matrix @ matrix
            seconds.append(time.process_time() - begun)
    return 2 * size**3 / min(seconds)


def milliseconds_to_act(model: DREAM, n_envs: int, repetitions: int, calls: int = 50) -> float:
    """
    :param model: any
    :param n_envs: observations in each call
    :param repetitions: the best counts
    :param calls: of ``predict`` in each repetition, with recurrent state
    """
    assert model.env is not None
    observations = np.asarray(model.env.reset())[:n_envs]
    starts, state = np.zeros(n_envs, dtype=bool), None
    times = []
    for _ in range(repetitions + 1):
        begun = time.process_time()
        for _ in range(calls):
            _, state = model.predict(observations, state, starts)
        times.append(1_000 * (time.process_time() - begun) / calls)
    return min(times[1:])


def table(results: list[Result], peak: float) -> str:
    """
    :param peak: operations a second of the fastest matrix product
    :return: the results, a line each, for people
    """
    head = f"{'':<27}{'parameters':>11}{'rows':>6}{'dreamt':>8}{'ms/update':>11}"
    head += "".join(f"{phase:>16}" for phase in PHASES) + f"{'act 1':>9}{'act 8':>9}{'memory':>9}"
    lines = [head]
    for result in results:
        line = f"{result.name:<27}{result.parameters:>11,}{result.replayed:>6}{result.imagined:>8}"
        line += f"{1_000 * result.seconds:>11.1f}"
        line += "".join(
            f"{1_000 * result.phases[phase]:>9.1f} ({result.operations[phase] / peak / result.phases[phase]:>4.0%})"
            if phase in result.phases
            else f"{'':>16}"
            for phase in PHASES
        )
        line += "".join(
            f"{result.act_ms[n_envs]:>6.2f} ms" if n_envs in result.act_ms else f"{'':>9}" for n_envs in (1, 8)
        )
        line += "" if result.peak_memory is None else f"{result.peak_memory / 1e6:>6.0f} MB"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="CPU seconds of DREAM's updates, and milliseconds to act.")
    parser.add_argument(
        "configs", nargs="*", metavar="CONFIG", help=f"of {', '.join(map(repr, CONFIGS))}; default: all"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--updates", type=int, default=4, help="of each repetition, at least")
    parser.add_argument("--repetitions", type=int, default=5, help="the best counts")
    parser.add_argument("--threads", type=int, default=1, help="that PyTorch may use")
    parser.add_argument("--without-onednn", action="store_true", help="let PyTorch multiply with MKL alone")
    arguments = parser.parse_args()
    if arguments.without_onednn:
        th.backends.mkldnn.set_flags(False)
    unknown = [name for name in arguments.configs if name not in CONFIGS]
    if unknown:
        parser.error(f"unknown configuration {unknown[0]!r}: choose from {', '.join(map(repr, CONFIGS))}")
    th.set_num_threads(arguments.threads)
    names = arguments.configs or list(CONFIGS)
    results = [measure(name, CONFIGS[name], arguments.updates, arguments.repetitions) for name in names]
    if "fixed" in names:
        results += measure_peers(arguments.updates, arguments.repetitions)
    peaks = {str(dtype).removeprefix("torch."): fastest_product(dtype) for dtype in (th.float32, th.bfloat16)}
    print(table(results, peaks["float32"]))
    print(", ".join(f"{peak / 1e9:.0f} billion operations a second in {dtype}" for dtype, peak in peaks.items()))
    if arguments.json is not None:
        packages = ("torch", "numpy", "gymnasium", "stable-baselines3")
        machine = {
            "processor": processor(),
            "threads": arguments.threads,
            "operations_per_second": peaks,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in packages},
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"machine": machine, "results": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
