"""What DREAM's settings are worth: placements with one setting changed at a time.

``python -m benchmarks.ablations`` trains what is missing by ``python -m sb3_dream train``, plays 100 games with each
agent's most likely actions, and writes a file a run into ``benchmarks/results/ablations/``. ``--only "no masks"`` and
the like choose; what was measured is not trained again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import planning
from sb3_dream import SequenceReplayBuffer, cli

RESULTS = Path(__file__).parent / "results" / "ablations"
ENV = "TetrisPlacement-v0"
STEPS = 10_000
#: What each variant adds to ``train -params``.
VARIANTS = {
    "as in zoo_configs": (),
    "no masks": ("use_masking:False",),
    "half the train ratio": ("train_ratio:16",),
    "twice the train ratio": ("train_ratio:64",),
    "a quarter of the rollouts": ("imagination_starts:32",),
    "four times the rollouts": ("imagination_starts:512",),
    "a horizon of 5": ("imagination_horizon:5",),
    "dreams of one rollout": ("dream_length:15",),
    "no dreams from the beginning": ("initial_fraction:0.0",),
    "one pass over each rollout": ("n_epochs:1",),
    "the last discount from the first step": ("gamma_start:0.985",),
    "no further steps with rewards": ("reward_batch_size:0",),
    "no stored states": ("replay_buffer_class:__import__('benchmarks.ablations').ablations.WithoutStates",),
    "rssm instead of recurrent": ("policy_kwargs:dict(world_model='rssm')",),
}


class WithoutStates(SequenceReplayBuffer):
    """Replay from which every sequence begins with an empty memory."""

    def add(self, *step: Any, **more: Any) -> None:
        """See the base class; memories are left out."""
        super().add(*step, **more | {"memory": None, "last_memory": None})

    def update_memory(self, *fresher: Any) -> None:
        """See the base class; nothing is kept."""


def measure(variant: str, seed: int, folder: Path, steps: int = STEPS, games: int = 100) -> dict[str, Any] | None:
    """
    :param variant: one of :data:`VARIANTS`
    :param seed: of the training
    :param folder: of the agent; what an unfinished training left there is replaced
    :param steps: of the training
    :param games: to play
    :return: the settings, seconds of training and games; None if the training was stopped
    """
    settings = VARIANTS[variant]
    command = f"train --algo dream --env {ENV} --seed {seed} -n {steps} --eval-freq -1 --num-threads 1".split()
    shutil.rmtree(folder, ignore_errors=True)
    start = time.perf_counter()
    if cli.main([*command, "-f", str(folder), *(["-params", *settings] if settings else [])]):
        return None
    seconds = time.perf_counter() - start
    model = folder / "dream" / f"{ENV}_1" / f"{ENV}.zip"
    found = planning.measure(model, 0, 1, games, min(games, 50), trust=True)
    return found | {"variant": variant, "settings": settings, "seed": seed, "seconds": seconds}


def table() -> str:
    """
    :return: Markdown, a row for each variant that was measured, in the order of :data:`VARIANTS`
    """
    rows = ["| variant | settings | lines a game of each seed | return | training, s |", "|---" * 5 + "|"]
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    for variant, settings in VARIANTS.items():
        runs = [run for run in found if run["variant"] == variant]
        if runs:
            lines = ", ".join(f"{np.mean(run['counters']['total_lines']):.1f}" for run in runs)
            returns = ", ".join(f"{np.mean(run['returns']):.0f}" for run in runs)
            told = ", ".join(f"`{setting}`" for setting in settings) or "-"
            seconds = np.mean([run["seconds"] for run in runs])
            rows.append(f"| {variant} | {told} | {lines} | {returns} | {seconds:.0f} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"), help="of the agents")
    known = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in known.seeds:
        for variant in known.only:
            name = f"{variant.replace(' ', '-')}-{seed}"
            file = RESULTS / f"{name}.json"
            if not file.is_file():
                found = measure(variant, seed, known.folder / name)
                if found is None:
                    return 1
                file.write_text(json.dumps(found, indent=1) + "\n")
    print(table())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
