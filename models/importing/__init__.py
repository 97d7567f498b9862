"""Weights of other people's training runs, read without running anything that came with them."""
