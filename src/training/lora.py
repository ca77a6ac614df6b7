"""The one meaning of LoRA in this package, architecture by architecture, and an audit of what it adapted.

Everywhere the matrices that a token's content goes through are adapted, and nothing that decides where it goes or how long
it stays: no router, no gate of the shared expert, no norm, no embedding, no LM head, and of a gated delta net neither the
convolution nor the decay. A name that means several things to peft, such as "all-linear" or "gate_proj", is never used:
on one architecture it reaches the router, on another it misses every routed expert, on a third it doubles a rank.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from torch import nn
from transformers import PretrainedConfig

from probes.errors import ConventionError
from training.recipes import Lora

ADAPTER = "default"
"""What peft calls the one adapter."""


@dataclass(frozen=True)
class Targets:
    """What is adapted in the layers of one architecture, named from the layer on."""

    every: tuple[str, ...] = ()
    """Matrices of every layer."""
    by_kind: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Matrices of the layers of a kind, as the config's layer_types call it."""
    experts: tuple[str, ...] = ()
    """Fused parameters of the routed experts; naming them as modules finds nothing, or only some of them."""

    @property
    def matrices(self) -> tuple[str, ...]:
        """All that are modules of their own."""
        return (*self.every, *(name for names in self.by_kind.values() for name in names))

    def of_layer(self, config: PretrainedConfig, layer: int, lora: Lora) -> dict[str, int]:
        """What is adapted in one layer → its rank."""
        own = self.by_kind[config.layer_types[layer]] if self.by_kind else ()
        ranks = {
            **dict.fromkeys((*self.every, *own), lora.attention_rank),
            **dict.fromkeys(self.experts, lora.expert_rank),
        }
        return {f"{layer}.{name}": rank for name, rank in ranks.items()}


ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
DELTA_NET = ("linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.out_proj")
"""What a gated delta net has of attention: queries, keys and values; the gate of what comes out, which full attention of the
same model keeps in its q_proj; and the way back. Not in_proj_a and in_proj_b: they set how fast each head forgets and how
much it writes, one number a head and token, which no attention has, and with 32 rows are smaller than an adapter of rank 64."""
EXPERTS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
SHARED_EXPERT = ("mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj", "mlp.shared_expert.down_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")

TARGETS = {
    "qwen3": Targets(ATTENTION + MLP),
    "qwen3_moe": Targets(ATTENTION, experts=EXPERTS),
    "qwen3_5_moe_text": Targets(SHARED_EXPERT, {"full_attention": ATTENTION, "linear_attention": DELTA_NET}, EXPERTS),
}
"""config.model_type → what is adapted. Qwen3.5's checkpoints name qwen3_5_moe, a model of texts and pictures; the model of
its texts, the only one that is loaded here, is qwen3_5_moe_text."""


def targets_of(config: PretrainedConfig) -> Targets:
    """What is adapted of a model. Raises ConventionError for an architecture that nobody has decided it for."""
    if config.model_type not in TARGETS:
        raise ConventionError(
            f"nothing says what LoRA should adapt in architecture {config.model_type!r}; it is decided for "
            f"{', '.join(TARGETS)}. Add its matrices to training.lora.TARGETS."
        )
    return TARGETS[config.model_type]


def lora_config(lora: Lora, config: PretrainedConfig) -> LoraConfig:
    """Adapters for an architecture, dropout 0 (peft cannot drop out on parameters). Raises what targets_of raises."""
    targets = targets_of(config)
    matrices = [name.removeprefix("self_attn.") for name in targets.matrices]  # peft compares the ends of names
    return LoraConfig(
        # The experts have the default rank and the others the exceptions: peft warns of a pattern that names a parameter.
        r=lora.expert_rank, lora_alpha=lora.alpha(lora.expert_rank), target_modules=matrices,
        target_parameters=list(targets.experts) or None, rank_pattern=dict.fromkeys(matrices, lora.attention_rank),
        alpha_pattern=dict.fromkeys(matrices, lora.alpha(lora.attention_rank)), lora_dropout=0.0, bias="none",
        task_type="CAUSAL_LM",
    )  # fmt: skip


def adapted_tensors(model: PeftModel, lora: Lora) -> tuple[str, ...]:
    """Names of the trainable tensors, audited.

    Raises ConventionError unless they are the adapters of all that TARGETS names, layer by layer as each is of its kind, at
    the ranks of the recipe and without dropout, and nothing else is trained.
    """
    config: PretrainedConfig = model.get_base_model().config  # pyright: ignore[reportAssignmentType]
    wanted: dict[str, int] = {}
    for layer in range(config.num_hidden_layers):
        wanted |= targets_of(config).of_layer(config, layer, lora)
    adapters = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    found = {_target(name, module): _rank(module) for name, module in adapters}
    wrong = [name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)]
    if wrong:
        said = [f"{name} at rank {found.get(name)} instead of {wanted.get(name)}" for name in sorted(wrong)]
        raise ConventionError(
            f"LoRA adapted other tensors of {config.model_type} than it should, or at other ranks: "
            f"{'; '.join(said[:5])}{f' … ({len(said)} in all)' if len(said) > 5 else ''}. See training.lora.TARGETS."
        )
    return _trained(model, adapters)


def _target(name: str, adapter: LoraLayer) -> str:
    """What an adapter stands on, from the number of its layer on; outside of the layers its whole name."""
    part = re.sub(r"^.*\blayers\.(?=\d)", "", name)
    if isinstance(adapter, ParamWrapper):  # those of one module are nested
        return f"{part.removesuffix('.base_layer')}.{adapter.parameter_name}"
    return part


def _rank(adapter: Any) -> int:
    """As the tensors have it, of one expert."""
    rows = adapter.lora_A[ADAPTER].weight.shape[0]
    return rows // adapter.num_experts if isinstance(adapter, ParamWrapper) else rows


def _trained(model: PeftModel, adapters: list[tuple[str, LoraLayer]]) -> tuple[str, ...]:
    """Names of the trainable tensors, which are the two of each adapter."""
    names = tuple(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    own = {f"{name}.lora_{side}.{ADAPTER}.weight" for name, _ in adapters for side in "AB"}
    dropping = [name for name, adapter in adapters if not isinstance(adapter.lora_dropout[ADAPTER], nn.Identity)]
    if set(names) != own or dropping:
        others = sorted(set(names) ^ own)
        raise ConventionError(
            f"besides the adapters {len(others)} tensors are trained or frozen (first: {others[:1]}), and {len(dropping)} "
            "adapters have dropout. Freeze the base, train both matrices of every adapter, and leave dropout at 0."
        )
    return names
