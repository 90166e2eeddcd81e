"""Tuning with optuna: a few trials that find a learning rate, a discount and an amount of replay for the pole.

For larger searches there is ``python -m sb3_dream tune``: it prunes, resumes, and shares a search among machines.

Run ``python examples/tuning.py``.
"""

import argparse

import optuna
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_dream import DREAM

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=1_500, help="environment steps a trial")
parser.add_argument("--trials", type=int, default=4)
arguments = parser.parse_args()


def objective(trial: optuna.Trial) -> float:
    model = DREAM(
        "CartPole-v1",
        learning_rate=trial.suggest_float("learning_rate", 3e-4, 5e-3, log=True),
        gamma=1 - trial.suggest_float("one_minus_gamma", 0.003, 0.05, log=True),
        train_ratio=trial.suggest_categorical("train_ratio", [16, 32, 64]),
        learning_starts=500,
        model_warmup=50,
        policy_kwargs={"world_model_kwargs": {"width": 32, "depth": 2, "memory": 16}},
        device="cpu",
        seed=0,
    )
    model.learn(arguments.steps)
    return float(evaluate_policy(model, model.get_env(), n_eval_episodes=10)[0])


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=arguments.trials)
print(f"\nbest: the pole stays up for {study.best_value:.0f} steps with")
for name, value in study.best_params.items():
    print(f"  {name} = {value:.3g}")
