"""How probable a text is to a model: the mean log-probability of its tokens, each given all before it.

A text that is forced on a checkpoint may be one that it would never write; what is read of it then says little of what the
checkpoint carries. This is the number that stands beside such a reading.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from probes.lm.capture import Passage, check_passages, pad_batch
from probes.lm.generate import batches
from probes.lm.model import Model

ROWS = 2048
"""Positions whose scores over the vocabulary are in memory at once: 1.2 GB in float32 at Qwen3's 151,936 tokens."""


@torch.inference_mode()
def mean_log_probabilities(
    model: Model, passages: Sequence[Passage], batch_tokens: int = 16_384, label: str = "likelihood"
) -> np.ndarray:
    """Mean over each passage's span of the log-probability of its tokens, in nats: float64 (text), in their order.

    At temperature 1 and without any truncation. The LM head sees the span's positions alone. Raises what capture raises, and
    DataError for a span that begins a text, whose first token is foretold by nothing.
    """
    check_passages(passages, model, first=1)
    found = np.empty(len(passages))
    with tqdm(total=len(passages), desc=f"{label} ({model.address})", mininterval=1, disable=not label) as bar:
        for rows in batches([len(passage.token_ids) for passage in passages], batch_tokens):
            found[rows] = _of_batch(model, [passages[row] for row in rows])
            bar.update(len(rows))
    return found


def _of_batch(model: Model, passages: Sequence[Passage]) -> np.ndarray:
    pad = model.tokenizer.pad_token_id
    assert isinstance(pad, int)
    ids, attention, span = (tensor.to(model.network.device) for tensor in pad_batch(passages, pad, "right"))
    hidden = model.trunk(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state.to(ids.device)
    text, position = span.nonzero(as_tuple=True)
    before, said = hidden[text, position - 1], ids[text, position]
    log_p = torch.cat([_log_p(model, *part) for part in zip(before.split(ROWS), said.split(ROWS), strict=True)])
    sums = torch.zeros(len(passages), dtype=torch.float64, device=log_p.device).index_add(0, text, log_p.double())
    return (sums / span.sum(dim=1)).cpu().numpy()


def _log_p(model: Model, hidden: Tensor, said: Tensor) -> Tensor:
    """Log-probability of each token said, from the hidden state before it (token, feature)."""
    head = model.network.get_output_embeddings()
    assert head is not None  # every causal model has one
    scores = head(hidden).float()
    if cap := getattr(model.network.config.get_text_config(), "final_logit_softcapping", None):  # Gemma 2
        scores = cap * torch.tanh(scores / cap)
    return scores.log_softmax(dim=-1).gather(1, said[:, None].to(scores.device))[:, 0].to(said.device)
