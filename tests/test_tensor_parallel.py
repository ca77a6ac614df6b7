"""Processes that each hold a part of every layer read and write as one does (transformers' tensor parallelism, on two CPUs)."""

from random import Random

import numpy as np
import pytest
import torch

from probes import lm
from probes.errors import ConventionError, UnknownNameError
from probes.lm.capture import Passage, capture
from probes.lm.checkpoints import Checkpoint
from probes.lm.checks import CHECKS, line_of
from probes.lm.engines import start
from probes.lm.generate import Sampling, generate
from probes.lm.likelihood import mean_log_probabilities
from probes.lm.parity import apart, case_of
from small_model import save_small_model
from together import together
from training.tiny.train import base_text


def passages(model):
    rng = Random(1)
    ids = [model.tokenizer(base_text(rng))["input_ids"][:60] for _ in range(4)]
    return [Passage(tokens, range(3, len(tokens) - 1)) for tokens in ids]


def read_as_one_and_as_a_part_of_two(folder):
    """What each of the processes does."""
    whole, part = lm.load(folder, device="cpu"), lm.load(folder, device="tensor_parallel")
    assert sum(weights.to_local().numel() for weights in shared(part)) < 0.6 * sum(w.numel() for w in shared(part))
    texts, prompts, sampling = passages(whole), ["The bus", "Rain fell"], Sampling(12, 0.9, seed=3)
    assert apart(capture(part, texts, label=""), capture(whole, texts, label="")) <= 1e-6
    wrote = [[one.token_ids for one in generate(model, prompts, sampling, label="")] for model in (whole, part)]
    assert wrote[0] == wrote[1]
    likely = [mean_log_probabilities(model, texts, label="") for model in (whole, part)]
    np.testing.assert_allclose(*likely, rtol=1e-6)
    case = case_of(start("transformers_hooks", part))
    lines = [
        line_of(name, CHECKS[name], case)
        for name in ("layer i is hidden_states[i + 1]", "last layer un-normed", "dtype")
    ]
    assert [line.status for line in lines] == ["green", "green", "reported"], "\n".join(map(str, lines))
    assert part.network.dtype == torch.float32, "and every part of a weight is put back"
    with pytest.raises(ConventionError, match=r"nnsight 0.8 .* transformers 5.19"):
        start("nnsight", part)


def shared(model):
    return [weights for weights in model.network.parameters() if hasattr(weights, "to_local")]


def test_processes_that_share_every_layer_read_as_one(tmp_path):
    ended = together(read_as_one_and_as_a_part_of_two, str(save_small_model(tmp_path / "model")), log=tmp_path / "log")
    assert ended == [0, 0], (tmp_path / "log.0").read_text()


def test_nothing_is_shared_where_one_process_was_started():
    with pytest.raises(UnknownNameError, match="unknown device 'tensor_parallel'"):
        lm.load("tiny", device="tensor_parallel")


def test_an_adapter_is_not_merged_into_parts_of_weights(tmp_path):
    with pytest.raises(ConventionError, match="each process has a part of them"):
        lm.load(Checkpoint("tiny", "antirefusal", adapter=tmp_path), device="tensor_parallel")
