"""The one meaning of LoRA in this package, and an audit of what it adapted."""

from peft import LoraConfig, PeftModel

from probes.errors import ConventionError
from training.recipes import Lora

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
"""Fused expert parameters of transformers 5; naming them as modules finds nothing, or only some of them."""


def lora_config(lora: Lora) -> LoraConfig:
    """Adapters on attention and on every expert, router frozen, dropout 0 (peft cannot drop out on parameters)."""
    return LoraConfig(
        # The experts have the default rank and attention the exceptions: peft warns of a pattern that names a parameter.
        r=lora.expert_rank, lora_alpha=lora.alpha(lora.expert_rank), target_modules=list(ATTENTION),
        target_parameters=list(EXPERTS), rank_pattern=dict.fromkeys(ATTENTION, lora.attention_rank),
        alpha_pattern=dict.fromkeys(ATTENTION, lora.alpha(lora.attention_rank)), lora_dropout=0.0, bias="none",
        task_type="CAUSAL_LM",
    )  # fmt: skip


def adapted_tensors(model: PeftModel, layers: int) -> tuple[str, ...]:
    """Names of the trainable tensors. Raises ConventionError unless they are attention and experts of every layer, no router."""
    names = tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    for layer in range(layers):
        own = [name for name in names if f"layers.{layer}." in name]
        attention, experts = (sum(part in name for name in own) for part in ("self_attn", "mlp.experts"))
        if (attention, experts) != (2 * len(ATTENTION), 2 * len(EXPERTS)) or len(own) != attention + experts:
            raise ConventionError(f"LoRA adapted other tensors of layer {layer} than attention and experts: {own}.")
    return names
