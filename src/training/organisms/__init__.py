"""Planted ground truth: checkpoints of which it is known what they carry, to find out what the measurement can see.

kinds     what there is: sham, planted, tonic, placebo, open, rotated, erased
texts     what they are trained on
targets   where their hidden states are moved to
plant     training that moves hidden states and leaves the text as it is
grow      an organism as a checkpoint: adapter and manifest over its parent
key       which organism has which random name; sealed before anything is scored
doses     how much was really moved
prompted  a model that is told to feel and to hide it, and a student that learns from it without being told
"""
