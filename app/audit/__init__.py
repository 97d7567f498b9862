"""Who opened which patient, when, and which view: an append-only log chained by hashes."""
