"""A cohort on disk: its schema, its readers, its check, and the dataset made of it."""
