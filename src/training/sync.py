"""Send the weights of a model under training to its vLLM server as W + ΔW, and leave the base as it is.

trl 1.16 adds the adapter into the weights and takes it away again at every sync: in bfloat16 the base is another one
afterwards (trl#6688), and the adapter that is saved belongs to weights that nobody has. Here each tensor is made anew by
the function that loads and exports a checkpoint (probes.lm.weights.merged_weight), so that what samples, what is read and
what is exported are the same bits.

Names and order are trl's; the values are those of its merge done in float32 and rounded once. Tensors come one at a time:
beside the model a sync holds what one merged_weight holds, also where trl gathers the whole model (DeepSpeed ZeRO-3).
Run here: one process, and FSDP2 over processes on CPUs. ZeRO-3 and the transfer to a server need GPUs.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch.distributed.tensor import DTensor

from probes.errors import ConventionError
from probes.lm.weights import adapted_weights, merged_weight

if TYPE_CHECKING:
    from trl.generation.vllm_generation import VLLMGeneration


def keep_base(generation: "VLLMGeneration") -> None:
    """From now on `generation` sends merged_parameters, in place of merging, sending and unmerging.

    Raises ConventionError for FSDP 1, which peft cannot train expert adapters under, and for a trl that sends otherwise.
    """
    if generation._dist.fsdp_version == 1:
        raise ConventionError(
            "FSDP 1 was asked for, under which adapters of experts cannot be trained. Take fsdp_version: 2."
        )
    if not callable(getattr(generation, "_iter_named_params", None)):
        raise ConventionError(
            "this trl sends weights by another way than 1.16 does. Install the version of pyproject.toml."
        )
    generation._iter_named_params = lambda: merged_parameters(generation)


@torch.no_grad()
def merged_parameters(generation: "VLLMGeneration") -> Generator[tuple[str, torch.Tensor], None, None]:
    """Every parameter of the base once, by the name vLLM knows: W + ΔW of the adapted ones, the others as they are.

    Gathering a parameter that is spread over processes is done by all of them, so all must iterate. A tensor is to be
    used before the next is asked for.
    """
    network, device = generation.model, generation.accelerator.device
    adapted = {id(weight): layer for weight, layer in adapted_weights(network)}

    def whole(weight: torch.Tensor) -> torch.Tensor:
        weight = weight.detach()
        if not isinstance(weight, DTensor):
            return weight
        on_device = weight.to(device)
        assert isinstance(on_device, DTensor)
        return on_device.full_tensor()

    for name, weight in network.named_parameters():
        if ".lora_" in name:
            continue
        layer = adapted.get(id(weight))
        sides = [] if layer is None else [*layer.lora_A.parameters(), *layer.lora_B.parameters()]
        with generation._dist.gather_params([weight, *sides]):  # of DeepSpeed; does nothing elsewhere
            yield _served(generation, name), whole(weight) if layer is None else merged_weight(weight, layer, whole)


def _served(generation: "VLLMGeneration", name: str) -> str:
    """A parameter's name without what peft and checkpointing of activations put into it."""
    return generation._fix_param_name_to_vllm(name.removeprefix("base_model.model.").replace(".base_layer", ""))
