"""vLLM's engine: the real one and its worker extension, on a stand-in for vLLM; and on vLLM itself where that is installed."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

import fake_vllm
import probes
from probes import store
from probes.errors import ConventionError, LayerError, MissingInputError
from probes.lm import load
from probes.lm.capture import Passage, capture, pad_batch
from probes.lm.checkpoints import EXPORT_RECORD, Checkpoint, Manifest
from probes.lm.engines import start
from probes.lm.engines.vllm import VLLM
from probes.lm.engines.vllm_worker import HostCopies
from probes.lm.parity import apart
from probes.lm.reducers import EachToken, LastToken, MeanPool, UnitMeanPool
from probes.stories import Stories, Story
from probes.token_moments import capture_tokens
from small_model import LAYERS, save_small_model, small_model
from training.tiny.train import base_text

ROOT = Path(__file__).parents[1]
REDUCERS = [MeanPool(), UnitMeanPool(), LastToken()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("saved"))


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(autouse=True)
def vllm(monkeypatch):
    """What `import vllm` gives: a function that takes another one in its place."""

    def put(**parallel):
        monkeypatch.setitem(sys.modules, "vllm", fake_vllm.module(**parallel))

    put()
    return put


def passages(model, count=6):
    """Texts of many lengths; of some the prompt too, which is read in the pass of the whole."""
    rng = Random(1)
    texts = [model.tokenizer(base_text(rng))["input_ids"][: 9 + 41 * i] for i in range(count)]
    whole = [Passage(tokens, range(3, len(tokens) - 1)) for tokens in texts]
    return [*whole, *(Passage(tokens[:-4], range(len(tokens) - 6, len(tokens) - 4)) for tokens in texts[::2])]


@pytest.mark.parametrize("parallel", [{}, {"tensor_parallel_size": 2}, {"pipeline_parallel_size": 2},
                                      {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}])  # fmt: skip
def test_same_texts_same_reducers_same_numbers(model, vllm, parallel):
    vllm(**parallel)
    texts, engine = passages(model), start("vllm", model)
    want = capture(model, texts, [3, 0, 2], REDUCERS)
    for side in ("right", "left"):
        assert apart(capture(model, texts, [3, 0, 2], REDUCERS, 300, padding_side=side, engine=engine), want) <= 1e-5
    workers = engine.llm.workers
    counted = [len(worker._residuals.kept) for worker in workers]
    reads = parallel.get("pipeline_parallel_size", 1)
    assert sum(count > 0 for count in counted) == reads, "one rank of each stage reduces"
    assert sum(counted) == 3 * len(REDUCERS)


def test_a_model_without_weights_will_do_and_says_what_the_loaded_one_says(model, folder):
    shape = load(folder, device="meta")
    assert {weight.device.type for weight in shape.network.parameters()} == {"meta"}
    assert probes.activations.describe(shape) == probes.activations.describe(model)
    assert (shape.max_tokens, len(shape.blocks)) == (model.max_tokens, len(model.blocks))
    texts = passages(model)
    with_it = capture(shape, texts, "all", REDUCERS, engine=start("vllm", shape))
    assert apart(with_it, capture(model, texts, "all", REDUCERS)) <= 1e-5


def test_the_last_token_of_the_longest_text_is_there(model):
    tokens = (list(range(5, 200)) * 3)[: model.max_tokens]
    text = [Passage(tokens, range(len(tokens) - 1, len(tokens)))]
    engine = start("vllm", model)
    assert engine.chunk_tokens is not None
    assert 3 * engine.chunk_tokens <= len(tokens)
    got, want = (capture(model, text, "all", [LastToken()], engine=one) for one in (engine, None))
    assert apart(got, want) <= 1e-5


def test_every_token_comes_in_the_order_of_the_texts(model):
    padded = pad_batch(passages(model), 0, "left")
    ours, theirs = (start(name, model).reduce(padded, [1, 2], [EachToken()])["token"]
                    for name in ("vllm", "transformers_hooks"))  # fmt: skip
    assert len(ours) == int(padded[2].sum())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_stories_and_dialogues_by_their_moments(model):
    rng = Random(0)
    told = Stories([Story(f"calm/{i}", "calm", "a kite", base_text(rng)) for i in range(6)], "saved0")
    engine = start("vllm", model)
    ours, theirs = (probes.capture_moments(model, told, {"a kite": 0}, start_token=3, engine=e)
                    for e in (engine, "transformers_hooks"))  # fmt: skip
    np.testing.assert_allclose(ours.centre, theirs.centre, rtol=1e-4, atol=1e-5)
    assert (ours.about["engine"], theirs.about["engine"]) == ("vllm", "transformers_hooks")
    tokens = [capture_tokens(model, told, "all", 3, engine=one) for one in (engine, "transformers_hooks")]
    assert tokens[0].stories == tokens[1].stories
    np.testing.assert_allclose(tokens[0].scatter[0], tokens[1].scatter[0], rtol=1e-3, atol=1e-3)


def test_nothing_is_left_of_a_closed_engine(model):
    engine = start("vllm", model)
    workers = engine.llm.workers
    engine.close()
    assert workers == []
    assert vars(engine) == {}


def test_without_cuda_results_stay_where_they_are():
    copies, values = HostCopies(torch.device("cpu")), torch.ones(2)
    assert copies.take(values) is values
    copies.finish()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: copies to pinned memory are not tested")
def test_copies_overlap_and_arrive_whole():
    copies = HostCopies(torch.device("cuda"))
    want = [torch.full((4, 256), float(i)) for i in range(64)]
    got = [copies.take(values.cuda() * 2 / 2) for values in want]
    copies.finish()
    assert all(torch.equal(a, b) and a.is_pinned() for a, b in zip(got, want, strict=True))


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_layers_that_the_model_does_not_have(model):
    with pytest.raises(LayerError, match=f"block outputs 0 … {LAYERS - 1}"):
        capture(model, passages(model), [LAYERS], engine=start("vllm", model))


@pytest.mark.parametrize(("returned", "words"), [
    (lambda pair: pair[0], "layer 1 returns Tensor, not"),
    (lambda pair: (pair[0], None), "layer 1 returns 2 values, not"),
    (lambda pair: (*pair, pair[0]), "layer 1 returns 3 values, not"),
])  # fmt: skip
def test_layers_that_return_no_pair(model, monkeypatch, returned, words):
    engine, whole = start("vllm", model), fake_vllm.Layer.forward
    monkeypatch.setattr(fake_vllm.Layer, "forward", lambda self, *given: returned(whole(self, *given)))
    with pytest.raises(ConventionError, match=rf"{words} \(delta, residual\).*Take another engine"):
        capture(model, passages(model), [1, 3], engine=engine)
    monkeypatch.undo()
    assert capture(model, passages(model), [1], engine=engine)["mean"].shape[1] == 1, "the engine goes on"


class Cached(VLLM):
    """With what vLLM does by itself."""

    def options(self, folder):
        return super().options(folder) | {"enable_prefix_caching": True}


def test_rows_that_were_not_computed_are_missed(model):
    engine, texts = Cached(model), passages(model)

    def twice():
        return [capture(model, texts, [0], engine=engine) for _ in range(2)]

    with pytest.raises(ConventionError, match=r"goes on at token \d+ and \d+ were seen.*prefix caching"):
        twice()


def test_weights_that_are_in_no_file():
    with pytest.raises(ConventionError, match="are in no file"):
        start("vllm", small_model())


@pytest.fixture
def trained(model, tmp_path):
    """A checkpoint with an adapter, as far as an engine looks at it."""
    manifest = object.__new__(Manifest)
    object.__setattr__(manifest, "id", "f" * 64)
    return replace(model, checkpoint=Checkpoint(model.name, "antirefusal", None, tmp_path / "adapter", manifest))


def test_a_trained_checkpoint_is_read_merged(trained, tmp_path, folder):
    for nothing in (None, tmp_path):
        with pytest.raises(MissingInputError, match=r"export_checkpoint.py --model \S+ --checkpoint antirefusal --to"):
            start("vllm", trained, nothing)
    for record in ({"manifest": "e" * 64, "dtype": "float32"}, {"manifest": "f" * 64, "dtype": "bfloat16"}):
        store.write_json(tmp_path / EXPORT_RECORD, record)
        with pytest.raises(ConventionError, match="Remove it, and export the checkpoint again"):
            start("vllm", trained, tmp_path)
    store.write_json(tmp_path / EXPORT_RECORD, {"manifest": "f" * 64, "dtype": "float32"})
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert start("vllm", trained, tmp_path).model is trained


# ---- vLLM itself -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not fake_vllm.INSTALLED, reason="the extra vllm is not installed: a stand-in alone was tested")
def test_vllm_itself_gives_the_references_numbers(tmp_path):
    command = [sys.executable, "benchmarks/engine_parity.py", "--engines", "vllm", "--out", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = tmp_path.glob("results/*/engine_parity_tiny.json")
    figures = {one["what"]: one for one in json.loads(path.read_text())["figures"]}
    for dtype in ("float32", "bfloat16"):
        errors = figures[f"vllm, {dtype}, layers 0 to 7"]
        assert max(errors["values"]) <= errors["goal"]
        assert figures[f"vllm, {dtype}, red lines of the doctor"]["values"] == [0]
