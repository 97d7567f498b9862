"""Class tasks: how well labels are told apart, at what cut-off, and which run does it better."""
