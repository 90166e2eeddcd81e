"""How many operations a processor starts for an update of DREAM, one by one and with CUDA graphs.

    python benchmarks/launches.py

Small networks keep a GPU waiting for the next operation, so this number is what an update takes there. It is counted
on a CPU, where some operations differ: recordings are made, as on a GPU, and repeating one counts as one operation.
Views, which start nothing, are not counted. An update is one of the world model, with its share of the actor's and the
critic's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch.utils._python_dispatch import TorchDispatchMode

import sb3_dream.dream
from sb3_dream.config import DREAMConfig
from sb3_dream.nn.optimization import FiniteCheck

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script finds what lies in its own folder only
from benchmarks.update_configs import CONFIGS, ready, whole


class Operations(TorchDispatchMode):
    """Counts the operations that start inside the ``with`` block."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = [argument.alias_info for argument in func._schema.returns]
        self.count += not any(alias is not None and not alias.is_write for alias in returned)
        return func(*args, **(kwargs or {}))


def launches(config: DREAMConfig, recorded: bool, updates: int) -> float:
    """
    :param config: the configuration
    :param recorded: whether with CUDA graphs
    :param updates: over which to average
    :return: operations an update, once dreams last as long as they ever do
    """
    config = replace(config, dream_length=config.dream_length_end or config.dream_length)
    repeated = 0

    def record(function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        def repeat() -> None:
            nonlocal repeated
            repeated += 1

        return function(), repeat

    with patch.object(sb3_dream.dream, "recorder", lambda device: record):
        model = ready(config, device="cpu", cuda_graphs=recorded)
    model._finite = FiniteCheck(late=True)  # as on a GPU
    updates = whole(updates, config)
    model.train(5 * model.policy_delay, model.batch_size)  # a recording is made at the fourth call
    repeated = 0
    with Operations() as operations:
        model.train(updates, model.batch_size)
    return (operations.count + repeated) / updates


def main() -> None:
    """Count, and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("configs", nargs="*", default=["default", "fixed, quick"], help="of update_configs.py")
    parser.add_argument("--updates", type=int, default=8, help="over which to average, at least")
    arguments = parser.parse_args()
    if unknown := set(arguments.configs) - set(CONFIGS):
        parser.error(f"unknown configuration {min(unknown)!r}: choose from {', '.join(map(repr, CONFIGS))}")
    print(f"{'operations an update':<24}{'one by one':>12}{'recorded':>10}")
    for name in arguments.configs:
        alone, recorded = (launches(CONFIGS[name], recorded, arguments.updates) for recorded in (False, True))
        print(f"{name:<24}{alone:>12,.0f}{recorded:>10,.0f}")


if __name__ == "__main__":
    main()
