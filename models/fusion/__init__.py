"""One file a fusion strategy, registered by name."""
