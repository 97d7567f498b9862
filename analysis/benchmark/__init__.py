"""Strategies and plain regressions side by side on the same folds of a real cohort."""
