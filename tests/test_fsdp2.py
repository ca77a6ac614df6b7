"""Adapters on attention and fused experts learn the same when FSDP2 cuts the model up as when it is in one piece.

Two processes on the CPU, by the settings that GPUs are started with. accelerate's Accelerator ignores FSDP without a GPU, so
what it calls there is called here directly; its mixed precision alone is not tried.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from launching import environment
from probes import lm, store
from probes.errors import ConventionError
from probes.lm.model import Model
from small_model import save_small_model
from together import together
from training.adapter import attach, base_checksum, check_base, save_adapter, trained_tensors
from training.processes import here, load_here
from training.recipes import Lora

TEXTS = ["The kettle is on.", "It rained all day in the town.", "Who was it?", "She opened the window and looked out."]


def adapted(model: Model) -> torch.nn.Module:
    """The model with an adapter that does something: B of a new one is 0, and so is then the gradient of A."""
    network = attach(model, Lora(4, 2), None, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, weights in network.named_parameters():
        if "lora_B" in name:
            weights.data = 0.05 * torch.randn(weights.shape, generator=generator)
    return network


def loss_of(network, tokenizer, texts, all_texts) -> torch.Tensor:
    """The part of these texts in the mean loss a token of all."""
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    wanted = batch["input_ids"][:, 1:].masked_fill(batch["attention_mask"][:, 1:] == 0, -100)
    logits = network(**batch, use_cache=False).logits[:, :-1]
    count = sum(len(ids) - 1 for ids in tokenizer(all_texts)["input_ids"])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum") / count


def gradients(network) -> dict[str, torch.Tensor]:
    grads = {name: weights.grad for name, weights in network.named_parameters() if weights.requires_grad}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in grads.items()}


def cut_up(network: torch.nn.Module) -> torch.nn.Module:
    """What an Accelerator does on GPUs, by the settings in the environment."""
    ours = here()
    state = SimpleNamespace(fsdp_plugin=FullyShardedDataParallelPlugin())
    accelerator = SimpleNamespace(
        state=state, is_main_process=ours.is_main_process, process_index=ours.process_index, device=torch.device("cpu"),
        mixed_precision="no", parallelism_config=None,
    )  # fmt: skip
    return fsdp2_prepare_model(accelerator, network)  # pyright: ignore[reportArgumentType]


def learn_cut_up(base: Path, folder: Path, told: dict[str, str]) -> None:
    """What each of two processes does: a step on its own half of the texts, and what is kept of it."""
    os.environ |= told
    ours = here()
    model = load_here(str(base))
    assert model.network.state_dict()["lm_head.weight"].any() == ours.is_main_process  # the other waits for its part
    network = adapted(model)
    before = base_checksum(network)
    network.enable_input_require_grads()
    network.gradient_checkpointing_enable()  # as the trainers do on GPUs
    network = cut_up(network)
    assert all(isinstance(weights, DTensor) for weights in network.parameters())
    assert all(isinstance(block, FSDPModule) for block in model.blocks)
    assert (base_checksum(network) == before) == ours.is_main_process
    loss = 2 * loss_of(network, model.tokenizer, TEXTS[ours.process_index :: 2], TEXTS)  # FSDP takes the mean of two
    loss.backward()
    torch.distributed.all_reduce(loss)
    grads, tensors = gradients(network), trained_tensors(network)
    check_base(before, network, "antirefusal@sft")
    if ours.is_main_process:
        save_file({**grads, "loss": loss.detach() / 2}, folder / "gradients.safetensors")
        save_adapter(network, tensors, folder / "adapter", "small")
    change_the_base(network, ours.process_index, before)


def change_the_base(network, rank: int, before: str) -> None:
    """A change in the second process's part alone is found by the first, which reports it."""
    frozen = next(weights for name, weights in network.named_parameters() if "mlp.gate.weight" in name)
    if rank == 1:
        with torch.no_grad():
            frozen.to_local()[0, 0] += 1e-3
    if rank == 0:
        with pytest.raises(ConventionError, match="changed the base weights"):
            check_base(before, network, "antirefusal@sft")
    else:
        check_base(before, network, "antirefusal@sft")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def kept(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    codes = together(
        learn_cut_up, base, folder, environment("eight_gpus_fsdp2.yaml", "--num_processes", "2"), log=folder / "out"
    )
    assert codes == [0, 0], (folder / "out.0").read_text() + (folder / "out.1").read_text()
    return folder


@pytest.fixture(scope="module")
def whole(base):
    model = lm.load(str(base))
    network = adapted(model)
    loss = loss_of(network, model.tokenizer, TEXTS, TEXTS)
    loss.backward()
    return network, {**gradients(network), "loss": loss.detach()}


def test_loss_and_every_gradient_are_those_of_one_process(kept, whole):
    ours, theirs = load_file(kept / "gradients.safetensors"), whole[1]
    assert ours.keys() == theirs.keys()
    assert len(ours) == 1 + 4 * (2 * 4 + 2 * 2)
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 1e-4, name
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_the_adapter_that_is_saved_is_whole(kept, whole, tmp_path):
    save_adapter(whole[0], trained_tensors(whole[0]), tmp_path / "adapter", "small")
    name = "adapter/adapter_model.safetensors"
    assert store.sha256(kept / name) == store.sha256(tmp_path / name)
