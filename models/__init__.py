"""What is trained: encoders, fusion strategies, losses, checkpoints. Imports nothing above it."""
