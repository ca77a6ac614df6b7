"""End a run whose sampler is not the model under training."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from probes.errors import ConventionError

DIFFERENCE = "sampling/sampling_logp_difference/mean"
"""trl's name for the mean of |log p of the trained model − log p of the sampler| over the sampled tokens, in nats."""


class SamplingGuard(TrainerCallback):
    """Looks at the first steps that this process makes, also after a resume, when the server is a fresh one.

    limit: mean difference that is borne, in nats; steps: how many are looked at. Sound runs of Qwen3-30B-A3B with vLLM
    were seen at divergences of 0.0005 to 0.0015 (prime-rl#2808), which is a mean difference of at most √(2 · 0.0015) = 0.055;
    the limit is about twice that, and ours. Weights that did not arrive, or in the wrong places, give more by far.
    """

    def __init__(self, limit: float = 0.1, steps: int = 5):
        self.limit, self.left = limit, steps

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Raises ConventionError above the limit, and where trl does not say."""
        if not self.left or "reward" not in (logs or {}):  # the summary at the end has no reward
            return
        self.left -= 1
        difference = (logs or {}).get(DIFFERENCE)
        if difference is None or not difference <= self.limit:
            raise ConventionError(
                f"the sampler is not the model under training: at step {state.global_step} their log-probabilities differ by "
                f"{difference} nats a token on average, where {self.limit} is borne ({DIFFERENCE}). Start the vLLM server anew: "
                "vLLM 0.31, --moe-backend triton, the dtype of the training."
            )
