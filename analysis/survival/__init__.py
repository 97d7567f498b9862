"""Time-to-event statistics: concordance, curves, calibration, comparison."""
