"""Rows to train on: prompts with completions, by task."""
