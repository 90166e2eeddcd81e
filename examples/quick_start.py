"""The quick start: DREAM learns to balance a pole.

Run ``python examples/quick_start.py``.
"""

import argparse

from stable_baselines3.common.evaluation import evaluate_policy

from sb3_dream import DREAM

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=4_000, help="environment steps to train for")
steps = parser.parse_args().steps

model = DREAM("CartPole-v1", verbose=1, seed=0)
before, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
model.learn(steps)
after, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
print(f"The pole stayed up for {before:.0f} steps before the training and for {after:.0f} after it.")
