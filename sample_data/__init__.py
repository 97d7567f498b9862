"""Simulated cohorts with a known truth, and the trained checkpoints that ship with FusionLens."""
