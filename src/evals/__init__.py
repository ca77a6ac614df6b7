"""Behaviour evaluations of checkpoints as Inspect AI tasks: from questions to tables with intervals.

    questions → behaviour (conversations, one file each in tasks) → judges → tables (stats) → figures

`suite` runs them on one checkpoint after another, `providers` puts checkpoints behind Inspect's model interface.
"""
