"""What a vLLM server is sent is the merged model, tensor by tensor, and the base stays what it was.

Everything here runs trl's own sync; only the server is missing, for which a list stands in that keeps what it is sent.
"""

import os
import tempfile
from contextlib import nullcontext
from copy import deepcopy
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from peft import get_peft_model
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from trl.generation.vllm_generation import VLLMGeneration

from probes.errors import ConventionError
from probes.lm.weights import merge_adapter
from small_model import LAYERS, small_model
from training.adapter import base_checksum, save_adapter, trained_tensors
from training.lora import lora_config
from training.recipes import Lora
from training.sync import keep_base, merged_parameters

DTYPES = (torch.float32, torch.bfloat16)


class Sent(list):
    """In place of trl's client of a server: names, announced and sent tensors, as they were when they came."""

    def update_named_params(self, metadata, named_params):
        self.announced = metadata
        self[:] = [(name, tensor.clone()) for name, tensor in named_params]

    def reset_prefix_cache(self):
        """Nothing is kept here."""


def network(dtype=torch.float32):
    """The random model with adapters that have learnt something."""
    base = small_model().network.to(dtype)
    wrapped = get_peft_model(base, lora_config(Lora(8, 2), base.config))
    generator = torch.Generator().manual_seed(0)
    for name, weights in wrapped.named_parameters():
        if "lora_B" in name:
            weights.data = 0.05 * torch.randn(weights.shape, generator=generator)
    return wrapped


def generation(model, fsdp_version=None):
    """trl's generation with vLLM, as it stands after its server has answered."""
    made = VLLMGeneration.__new__(VLLMGeneration)
    made.model, made.mode, made._weight_metadata, made.vllm_client = model, "server", None, Sent()
    made.accelerator = SimpleNamespace(is_main_process=True, device=torch.device("cpu"))
    made._dist = SimpleNamespace(
        is_fsdp=fsdp_version is not None, fsdp_version=fsdp_version, gather_params=lambda weights: nullcontext()
    )
    return made


def synced(model):
    """What one sync of ours sends."""
    ours = generation(model)
    keep_base(ours)
    ours.sync_weights()
    return ours.vllm_client


@pytest.mark.parametrize("dtype", DTYPES)
def test_names_and_values_are_those_of_trls_own_merge_in_float32(dtype):
    model = network(dtype)
    theirs = generation(deepcopy(model).float())
    theirs.sync_weights()
    sent = synced(model)
    assert [name for name, _ in sent] == [name for name, _ in theirs.vllm_client]
    for (name, ours), (_, other) in zip(sent, theirs.vllm_client, strict=True):
        assert torch.equal(ours, other.to(dtype)), name
    assert sent.announced == [(n, str(t.dtype).removeprefix("torch."), list(t.shape)) for n, t in sent]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_sent_is_what_loading_the_saved_adapter_gives(dtype, tmp_path):
    model = network(dtype)
    sent = dict(synced(model))
    save_adapter(model, trained_tensors(model), tmp_path, "small")
    loaded = merge_adapter(small_model().network.to(dtype), tmp_path)
    assert sent.keys() == dict(loaded.named_parameters()).keys()
    assert all(torch.equal(sent[name], weight) for name, weight in loaded.named_parameters())


def test_every_tensor_is_sent_once_and_the_adapted_ones_differ_from_the_base():
    base = dict(small_model().network.named_parameters())
    sent = synced(network())
    assert [name for name, _ in sent] == list(base)
    changed = [name for name, tensor in sent if not torch.equal(tensor, base[name])]
    assert len(changed) == LAYERS * (4 + 2)
    assert {name.rpartition("layers.0.")[2] for name in changed if "layers.0." in name} == {
        *(f"self_attn.{side}_proj.weight" for side in "qkvo"), "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
    }  # fmt: skip


def test_many_syncs_leave_a_base_in_bfloat16_bit_for_bit_as_it_was():
    model = network(torch.bfloat16)
    before, ours = base_checksum(model), generation(model)
    keep_base(ours)
    for _ in range(20):
        ours.sync_weights()
    assert base_checksum(model) == before
    assert not any(getattr(module, "merged", False) for module in model.modules())


def test_what_is_sent_of_an_adapted_weight_shares_no_memory_with_it():
    model = network()
    own = {weight.data_ptr() for name, weight in model.named_parameters() if "lora" not in name}
    sent = [tensor for name, tensor in merged_parameters(generation(model)) if "experts" in name or "_proj" in name]
    assert len(sent) == LAYERS * 6
    assert not own & {tensor.data_ptr() for tensor in sent}


def _ranks(rank, world, store, place):
    """One process of a model in shards: what it would send, on rank 0 to a file."""
    store = dist.FileStore(store, world)
    dist.init_process_group("gloo", rank=rank, world_size=world, store=store, timeout=timedelta(seconds=60))
    model = network(torch.bfloat16)
    mesh = init_device_mesh("cpu", (world,))
    for layer in model.base_model.model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    ours = generation(model, fsdp_version=2)
    ours.accelerator.is_main_process = rank == 0
    keep_base(ours)
    ours.sync_weights()
    if rank == 0:
        save_file(dict(ours.vllm_client), place)
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12 on
def test_shards_on_two_processes_send_the_same_bits_as_one(tmp_path):
    with tempfile.NamedTemporaryFile() as store:
        other = os.fork()
        if other == 0:
            code = 1
            try:
                _ranks(1, 2, store.name, tmp_path / "sent")
                code = 0
            finally:
                os._exit(code)
        _ranks(0, 2, store.name, tmp_path / "sent")
        assert os.waitpid(other, 0)[1] == 0
    sent, whole = load_file(tmp_path / "sent"), dict(synced(network(torch.bfloat16)))
    assert sent.keys() == whole.keys()
    assert all(torch.equal(sent[name], tensor) for name, tensor in whole.items())


def test_what_cannot_be_sent_is_refused():
    model = network()
    with pytest.raises(ConventionError, match="FSDP 1 was asked for"):
        keep_base(generation(model, fsdp_version=1))
    model.merge_adapter()
    with pytest.raises(ConventionError, match="not one plain LoRA on each layer"):
        synced(model)
