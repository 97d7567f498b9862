"""Public data sets turned into cohort folders."""
