"""Moments of single tokens: what neutral components of tokens are made of (recipe `neutral_tokens`).

    tokens = capture_tokens(model, neutral, layers="all", start_token=50)
    EmotionProbes("neutral_tokens").fit(stories, tokens)

A token is counted as a story is elsewhere: `covariance` of these moments is that of all tokens of all dialogues.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from tqdm import tqdm

from probes.activations import describe, story_passages
from probes.emotions import NEUTRAL
from probes.errors import DataError
from probes.lm.capture import capture_batch, check_layers
from probes.lm.engines import start
from probes.lm.generate import batches
from probes.lm.reducers import EachToken, MomentSums
from probes.moments import Moments, pack

if TYPE_CHECKING:
    from probes.lm.engines import Engine, EngineName
    from probes.lm.model import Model
    from probes.stories import Stories


def capture_tokens(
    model: "Model",
    dialogues: "Stories",
    layers: Sequence[int] | Literal["all"] = "all",
    start_token: int = 50,
    batch_tokens: int = 4096,
    engine: "EngineName | Engine" = "transformers_hooks",
) -> Moments:
    """First and second moments of the tokens of dialogues from `start_token` on, as one cell of the emotion `neutral`.

    engine is as in capture; one that computes elsewhere sends every token over, which for dialogues is bearable.
    A batch takes tokens · layers · width float32 on the device (1.6 GB for 4,096 tokens, 48 layers of 2048).
    Raises LayerError, and DataError for no dialogue that is long enough or values that are not finite.
    """
    chosen, engine = check_layers(layers, len(model.blocks)), start(engine, model)
    passages, labels, short = story_passages(model, dialogues, start_token)
    sums = MomentSums([0], [0], (len(chosen), model.entry.width), engine.device)
    for rows in tqdm(
        batches([len(p.token_ids) for p in passages], batch_tokens), desc=f"capture tokens ({model.address})"
    ):
        tokens = capture_batch(engine, [[passages[i]] for i in rows], chosen, [EachToken()], "right")["token"]
        if not tokens.isfinite().all():
            raise DataError(
                "tokens of neutral dialogues have activations that are not finite. Use bfloat16 or float32."
            )
        sums.add(tokens, [0] * len(tokens))
    assert sums.centre is not None
    folds = dict.fromkeys(labels["topic"], 0)
    scatter = {0: pack(sums.scatter(0, at) for at in range(len(chosen)))}
    about = {"start_token": start_token, "dropped_short": short, **describe(model, engine)}
    offsets = sums.offsets.to(torch.float32).cpu().numpy()[:, None]
    centre = sums.centre.double().cpu().numpy()
    return Moments((NEUTRAL,), chosen, folds, sums.counts[:, None], centre, offsets, scatter, about)
