"""Models that were trained elsewhere, turned into runs."""
