"""Behaviour evaluations of checkpoints as Inspect AI tasks. Nothing here yet: the package reserves the name."""
