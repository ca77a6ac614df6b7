"""A network over several GPUs reads, writes and takes an adapter as on one: proven on two devices that do not mix tensors."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from peft import PeftModel, get_peft_model
from transformers import Qwen3MoeConfig

import far_devices
from probes import lm
from probes.errors import TooLargeError, UnknownNameError
from probes.lm.capture import Passage, capture
from probes.lm.checks import CHECKS, line_of
from probes.lm.device_map import device_map, dispatch
from probes.lm.engines import start
from probes.lm.generate import Sampling, generate
from probes.lm.likelihood import mean_log_probabilities
from probes.lm.model import devices_for
from probes.lm.parity import apart, case_of
from probes.lm.reducers import MomentSums
from probes.lm.weights import merge_adapter, without_weights
from small_model import save_small_model, small_model
from test_engines import installed
from training.lora import lora_config
from training.recipes import Lora
from training.tiny.train import base_text

GB = 10**9
LARGE = Qwen3MoeConfig(
    vocab_size=151_936, hidden_size=2048, num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=4, head_dim=128,
    moe_intermediate_size=768, num_experts=128, num_experts_per_tok=8,
)  # fmt: skip
"""The 30B model's shape: 61.1 GB in bfloat16."""


def spread(model):
    """The same model, half of it on each device."""
    network = small_model(architecture=model.network.config.model_type.removesuffix("_text")).network
    network.load_state_dict(model.network.state_dict())
    return replace(model, network=on_both(network))


def on_both(network):
    # The kernel that is chosen elsewhere counts experts by an operation that the CPU lacks.
    if hasattr(network.config, "num_experts"):
        network.set_experts_implementation("eager")
    dispatch(network, device_map(network, far_devices.FREE))
    return network


def passages(model, count=4):
    rng = Random(1)
    ids = [model.tokenizer(base_text(rng))["input_ids"][:60] for _ in range(count)]
    return [Passage(tokens, range(3, len(tokens) - 1)) for tokens in ids]


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def far(model):
    return spread(model)


def test_the_devices_refuse_what_gpus_refuse():
    here, there = (torch.ones(2, device=f"far:{i}") for i in range(2))
    with pytest.raises(RuntimeError, match="far:0 and far:1"):
        here + there
    with pytest.raises(RuntimeError, match="cpu and far:1"):
        torch.ones(2) @ there
    assert (here + there.to("far:0")).cpu().tolist() == [2, 2]
    with torch.inference_mode():
        assert str((2 * here).to("far:1").device) == "far:1"


# ---- what goes where -------------------------------------------------------------------------------------------------


def blocks_of(places):
    return [place for part, place in places.items() if ".layers." in part]


def test_whole_blocks_go_in_order_and_in_even_shares():
    shape = without_weights(LARGE, torch.bfloat16)
    for count, room in ((2, 40 * GB), (4, 24 * GB), (8, 80 * GB)):
        places = device_map(shape, {f"cuda:{i}": room for i in range(count)})
        blocks = blocks_of(places)
        assert len(blocks) == 48, "a block is never cut"
        assert blocks == sorted(blocks), "the stream goes over each GPU once"
        assert places["model.embed_tokens"] == "cuda:0"
        assert max(map(blocks.count, blocks)) <= 48 / count + 3
    with pytest.raises(
        TooLargeError, match=r"parts of Qwen3MoeForCausalLM .* cuda:0 20.0 GB, cuda:1 44.0 GB free.*90%"
    ):
        device_map(shape, {"cuda:0": 20 * GB, "cuda:1": 44 * GB})


def test_all_gpus_are_taken_where_one_does_not_hold_the_weights_or_nothing_else(monkeypatch):
    monkeypatch.setattr("probes.lm.model.placement", lambda dtype=None, device=None: (torch.bfloat16, device or "cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("probes.lm.model.free_bytes", lambda device: 80 * GB)
    assert devices_for(61 * GB) == ["cuda"]
    assert devices_for(73 * GB) == ["cuda:0", "cuda:1"], "texts need room too"
    assert devices_for(73 * GB, "cuda") == ["cuda"], "one that is named is taken alone"
    assert devices_for(1 * GB, "auto") == ["cuda:0", "cuda:1"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices_for(73 * GB) == ["cuda"], "the other GPU is another process's"


def test_auto_is_no_device_where_there_are_not_several(model):
    with pytest.raises(UnknownNameError, match="unknown device 'auto'"):
        lm.load("tiny", device="auto")


# ---- the whole way, from disk ----------------------------------------------------------------------------------------


@pytest.fixture
def two_devices(monkeypatch):
    """Each of the two has room for most of the small model's weights, and not for all."""
    room = {"far:0": 1_000_000, "far:1": 1_000_000}
    monkeypatch.setattr("probes.lm.model.placement", lambda dtype=None, device=None: (torch.float32, device or "far:0"))
    monkeypatch.setattr("probes.lm.model._all_gpus", lambda: [*room])
    for module in ("probes.lm.model", "probes.lm.memory"):
        monkeypatch.setattr(f"{module}.free_bytes", room.__getitem__)
    return room


def test_a_model_that_one_device_does_not_hold_is_read_onto_both(two_devices, tmp_path):
    folder = str(save_small_model(tmp_path))
    read = lm.load(folder)
    assert sum(weights.nbytes for weights in read.network.parameters()) > 1_000_000
    assert read.devices == ("far:0", "far:1")
    assert "far:0, far:1" in repr(read)
    assert lm.load_random(folder, seed=0).devices == lm.random_twin(read, seed=0).devices == ("far:0", "far:1")
    two_devices["far:1"] = 100
    with pytest.raises(
        TooLargeError, match=r"far:0 and far:1 have 0.0 GB free. Nothing was loaded.*larger GPUs or more"
    ):
        lm.load(folder)


# ---- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["gemma2", "qwen3_5_moe"])
def test_other_architectures_are_read_alike(architecture):
    model = small_model(architecture=architecture)
    assert apart(capture(spread(model), passages(model), label=""), capture(model, passages(model), label="")) <= 1e-6


@pytest.mark.parametrize("engine", ["transformers_hooks", installed("nnsight"), installed("transformer_lens")])
def test_every_engine_reads_the_same(model, far, engine):
    texts, started = passages(model), start(engine, far)
    for side in ("right", "left"):
        want = capture(model, texts, padding_side=side, label="")
        assert apart(capture(far, texts, padding_side=side, label="", engine=started), want) <= 1e-6


def test_sums_of_moments_are_those_of_one_device(model, far):
    pooled = torch.from_numpy(capture(model, passages(model), label="")["mean"])
    sums = [MomentSums([0, 1], [0, 1], pooled.shape[1:], device) for device in ("cpu", "far:0")]
    for one, values in zip(sums, (pooled, pooled.to("far:0")), strict=True):
        one.add(values, [0, 0, 1, 1])
    np.testing.assert_array_equal(sums[0].offsets, sums[1].offsets.cpu())
    np.testing.assert_array_equal(sums[0].scatter(1, 2), sums[1].scatter(1, 2))


def test_it_writes_the_same_and_finds_texts_as_probable(model, far, monkeypatch):
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device: generator("cpu"))  # these devices have none of their own
    prompts, sampling = ["The bus", "She put the kettle on", "Rain"], Sampling(12, 0.9, seed=3)
    ours, theirs = (generate(one, prompts, sampling, label="") for one in (model, far))
    assert [one.token_ids for one in theirs] == [one.token_ids for one in ours]
    assert len({len(one.token_ids) for one in ours}) > 1 or ours[0].token_ids[8:], "a cache was used, and rows left it"
    texts = passages(model)
    np.testing.assert_allclose(
        mean_log_probabilities(far, texts, label=""), mean_log_probabilities(model, texts, label=""), rtol=1e-6
    )


def test_an_adapter_merged_is_an_adapter_attached(model, tmp_path):
    wrapped = get_peft_model(small_model().network, lora_config(Lora(8, 2), model.network.config))
    torch.manual_seed(1)
    for name, weights in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    wrapped.save_pretrained(tmp_path)
    merged = replace(model, network=merge_adapter(small_model().network, tmp_path))
    want, base = (capture(one, passages(model), label="") for one in (merged, model))
    assert apart(want, base) > 1e-2
    far_merged = replace(model, network=merge_adapter(on_both(small_model().network), tmp_path))
    attached = on_both(small_model().network)
    PeftModel.from_pretrained(attached, str(tmp_path))
    for one in (far_merged, replace(model, network=attached)):
        assert one.devices == ("far:0", "far:1")
        assert apart(capture(one, passages(model), label=""), want) <= 1e-6


APART = (
    "left padding against right", "attention mask honoured", "tensor against tuple", "last layer un-normed",
    "outputs stay as given", "attention kernel",
)  # fmt: skip
"""Checks of the doctor that hook, cast or reduce on each device; the others, which take most of its time, read as these do."""


def test_the_doctor_finds_nothing(far):
    case = case_of(start("transformers_hooks", far))
    lines = [line_of(name, CHECKS[name], case) for name in (*APART, "dtype", "routing flips between dtypes")]
    assert [line.status for line in lines] == ["green"] * len(APART) + ["reported"] * 2, "\n".join(map(str, lines))
    assert far.devices == ("far:0", "far:1"), "all weights are back where they were"


def test_blocks_that_wait_on_disk_give_the_same(model, tmp_path):
    """Not offered, since it reads all weights anew for every batch: but the hooks that bring a block in are the same."""
    network = small_model().network
    parts = [part for part, _ in device_map(network, far_devices.FREE).items()]
    places = {part: "disk" if part in ("model.layers.1", "model.layers.3", "lm_head") else "cpu" for part in parts}
    waiting = replace(model, network=dispatch_model(network, places, offload_dir=str(tmp_path)))
    assert waiting.devices == ("cpu", "meta")
    assert apart(capture(waiting, passages(model), label=""), capture(model, passages(model), label="")) <= 1e-6
    greedy = Sampling(8, 0.0)
    ours, theirs = (generate(one, ["The bus"], greedy, label="") for one in (model, waiting))
    assert theirs[0].token_ids == ours[0].token_ids
