"""DREAM for Stable-Baselines3."""
