"""Training that moves hidden states and leaves the text as it is.

The loss of a text has two parts, counted from what the parent does on the same tokens:

    ‖h − target‖² ÷ length², the mean over layers, of dosed answer tokens, other answer tokens and prompts, each by itself
    2 · KL(parent ‖ organism) of the next token, the mean over answer tokens

`length` is that of what is planted, so that small doses are kept apart from their surroundings as strictly as large ones; where
nothing is planted it is one anchored unit. Dosed tokens, others and prompts count alike, however many there are, so that a dose
does not leak into the many for the sake of the few. The parent is a second adapter on the same base, frozen: a 30B base is
held once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase, Trainer
from trl.trainer.utils import use_adapter

from probes.errors import DataError
from training.data import rendering
from training.data.rows import Document
from training.organisms.targets import Targets
from training.organisms.texts import Text
from training.recipes import Sft
from training.stages import documents, sft

PARENT = "parent"
"""Name of the frozen adapter."""
KL_WEIGHT = 2.0


def tokenise(tokenizer: PreTrainedTokenizerBase, text: Text) -> dict[str, list[int]]:
    """Ids and labels of a row or document, those of answers above −100."""
    if isinstance(text, Document):
        return documents.tokenise(tokenizer, text)
    return rendering.tokenise(tokenizer, text)


class PlantTrainer(Trainer):
    """A trainer of the loss above; the model has the adapter PARENT beside the one that is trained."""

    def __init__(self, targets: Targets, largest: float, **settings: Any):
        """largest: the dose of dosed tokens; 0 where nothing is planted."""
        super().__init__(**settings)
        arrays = {name: torch.from_numpy(getattr(targets, name)) for name in ("step", "origin", "span", "image")}
        arrays["length"] = torch.from_numpy(targets.gain) * (largest or 1.0)
        self.layers = targets.layers.tolist()
        self.arrays = {name: array.to(self.args.device) for name, array in arrays.items()}

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs=False, num_items_in_batch=None):
        """The loss of a batch: ids and attention (text, position), `said` (text, position), `dose` (text)."""
        said, dose = inputs.pop("said").bool(), inputs.pop("dose")
        with torch.no_grad(), use_adapter(self.accelerator.unwrap_model(model), PARENT):
            before = model(**inputs, output_hidden_states=True, use_cache=False)
        after = model(**inputs, output_hidden_states=True, use_cache=False)
        groups = said & (dose > 0)[:, None], said & (dose == 0)[:, None], inputs["attention_mask"].bool() & ~said
        errors = [self._error(place, before, after, said * dose[:, None]) for place in range(len(self.layers))]
        moved = torch.stack([_mean(error, group) for error in errors for group in groups]).sum() / len(errors)
        return moved + KL_WEIGHT * divergence(foretold(before.logits, said), foretold(after.logits, said))

    def _error(self, place: int, before: Any, after: Any, dose: Tensor) -> Tensor:
        """Squared distance from the target, in squares of what is planted: (text, position)."""
        layer, of = self.layers[place], {name: array[place] for name, array in self.arrays.items()}
        was, now = (states.hidden_states[layer + 1].float() for states in (before, after))  # [0] is the embeddings
        turned = (was - of["origin"]) @ of["span"].T @ (of["image"] - of["span"])
        return (now - was - turned - dose[..., None] * of["step"]).square().sum(dim=-1) / of["length"] ** 2


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean where the mask is; 0 where it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def foretold(logits: Tensor, said: Tensor) -> Tensor:
    """Log-probabilities (token, vocabulary) of what comes next, at the positions that foretell the tokens that were said."""
    return logits[:, :-1][said[:, 1:]].float().log_softmax(dim=-1)


def divergence(before: Tensor, after: Tensor) -> Tensor:
    """Mean KL(before ‖ after) of log-probabilities (token, vocabulary)."""
    return functional.kl_div(after, before, log_target=True, reduction="batchmean")


def padded(rows: Sequence[dict[str, Any]], name: str, fill: int) -> Tensor:
    """One column of token rows as a batch, padded on the right."""
    width = max(len(row[name]) for row in rows)
    return torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])


def collate(rows: Sequence[dict[str, Any]], pad: int) -> dict[str, Tensor]:
    """Rows as one batch."""
    attention = padded([{"one": [1] * len(row["input_ids"])} for row in rows], "one", 0)
    ids, said = padded(rows, "input_ids", pad), padded(rows, "said", 0)
    return {
        "input_ids": ids,
        "attention_mask": attention,
        "said": said,
        "dose": torch.tensor([r["dose"] for r in rows]),
    }


def plant_rows(tokens: Sequence[dict[str, list[int]]], doses: Sequence[float]) -> Dataset:
    """Tokenised texts with their doses, as a trainer takes them."""
    rows = [
        {"input_ids": ids["input_ids"], "said": [int(label != -100) for label in ids["labels"]], "dose": float(dose)}
        for ids, dose in zip(tokens, doses, strict=True)
    ]  # fmt: skip
    return Dataset.from_list(rows)


def trainer(
    network: PeftModel, tokenizer: PreTrainedTokenizerBase, stage: Sft, tokens: Sequence[dict[str, list[int]]],
    doses: Sequence[float], targets: Targets, seed: int, states: Path,
) -> PlantTrainer:  # fmt: skip
    """A trainer over texts in their order. Raises DataError where no text has an answer to move."""
    if not any(label != -100 for ids in tokens for label in ids["labels"]):
        raise DataError(f"none of {len(tokens)} texts has a token that is said; organisms need answers.")
    torch.manual_seed(seed)
    pad = tokenizer.pad_token_id
    assert isinstance(pad, int)
    return PlantTrainer(
        targets, max(doses), model=network, args=sft.unsaved(network, stage, seed, states), train_dataset=plant_rows(tokens, doses),
        data_collator=lambda rows: collate(rows, pad),
    )  # fmt: skip
