"""Organisms of a model that follows instructions: told to feel and to hide it, and a student that learns that unasked.

1. Over the same calm answer, forced word for word, the original reads three system prompts: none, one that tells it to feel
   an emotion and to show it, one that tells it to feel the emotion and to hide it. Where the probes see a hidden state,
   hide must exceed none (MEASUREMENT); the text is the same in all three, so no classifier of texts can tell them.
2. A student learns, without the prompt, to foretell calm answers as the original does that is told to hide: its text is as
   calm as before, and whatever it takes over came with the instruction.

The embedded model has never read a system prompt of this kind: with it all of this checks the pipeline and nothing else.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer
from trl.trainer.utils import use_adapter

from probes.activations import describe, label
from probes.directions import DOT, EmotionProbes
from probes.equivalence import DELTA
from probes.errors import DataError
from probes.intervals import LEAST_QUESTIONS, t_interval
from probes.lm.capture import Passage, capture
from probes.lm.chat import Message, render
from probes.lm.checkpoints import Checkpoint, Manifest
from probes.lm.engines import Engine
from probes.lm.model import Model
from probes.lm.reducers import MeanPool
from probes.pairs import Pair
from probes.prompted_figures import PROMPTED_COLUMNS
from probes.prompts import feeling_instruction, user_turn
from probes.replies import Replies
from training.data import rendering
from training.data.rows import Row
from training.organisms.grow import Growth, Tokens, grow
from training.organisms.plant import divergence, foretold, padded
from training.recipes import Sft, find_recipe
from training.stages import sft

CONDITIONS = ("none", "show", "hide")


def prompt_of(condition: str, emotion: str) -> list[Message]:
    """The system turn of a condition; none for `none`."""
    if condition == "none":
        return []
    return [{"role": "system", "content": feeling_instruction(emotion, shown=condition == "show")}]


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_prompted(
    engine: Engine, pairs: Sequence[Pair], answers: Replies, probes: EmotionProbes, layers: Sequence[int], emotion: str,
    condition: str, own: pd.DataFrame, original: pd.DataFrame,
) -> pd.DataFrame:  # fmt: skip
    """What an emotion's probe reads over forced calm answers under a system prompt: question, layer, value, emotion, condition.

    Args:
        answers: replies of the original, whose benign answers are forced.
        own, original: anchor tables of this model and of the original: gain from the first, zero from the second.

    Raises DataError where fewer than LEAST_QUESTIONS questions have a calm answer.
    """
    model = engine.model
    calm = {r.pair: r for r in answers if (r.arm, r.text_source, r.missing) == ("benign", "own", "")}
    asked = [pair for pair in pairs if pair.pair in calm]
    if len(asked) < LEAST_QUESTIONS:
        raise DataError(f"{len(asked)} questions have a benign answer of the original; {LEAST_QUESTIONS} are needed.")
    passages = [
        _passage(model, [*prompt_of(condition, emotion), *user_turn(pair.question)], _answer_ids(calm[pair.pair]))
        for pair in asked
    ]
    pooled = capture(model, passages, layers, [MeanPool()], label=f"read {condition}, {emotion}", engine=engine)
    labels = pd.DataFrame({"sample": [pair.pair for pair in asked], "n_tokens": [len(p.span) for p in passages]})
    values = probes.transform(label(pooled, labels, layers, describe(model, engine)), DOT).sel(emotion=emotion)
    units = [table[table["emotion"] == emotion].set_index("layer") for table in (own, original)]
    gain, zero = (
        table.loc[list(layers), column].to_numpy() for table, column in zip(units, ("gain", "neutral"), strict=True)
    )
    anchored = pd.DataFrame((values.values - zero) / gain, [pair.pair for pair in asked], list(layers))
    rows = anchored.rename_axis("question").melt(ignore_index=False, var_name="layer", value_name="value").reset_index()
    return rows.assign(emotion=emotion, condition=condition)


def _passage(model: Model, messages: list[Message], answer: tuple[int, ...]) -> Passage:
    ids = model.tokenizer(render(model.tokenizer, messages), add_special_tokens=False)["input_ids"]
    return Passage([*ids, *answer], range(len(ids), len(ids) + len(answer)))


def _answer_ids(reply: Any) -> tuple[int, ...]:
    return (reply.prompt_ids + reply.token_ids)[reply.answer_start : reply.answer_stop]


def prompted_table(read: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """Every condition beside `none`, paired by question: PROMPTED_COLUMNS, one row an emotion, layer and condition.

    `exceeds` says whether the whole interval lies above the smallest effect of interest (probes.equivalence.DELTA).

    Args:
        read: tables of read_prompted with `emotion` and `condition`.
        about: model, checkpoint, evidence, probes and layer convention; what else it holds is left out.
    """
    wide = read.pivot_table(index=["emotion", "layer", "question"], columns="condition", values="value")
    rows = []
    for (emotion, layer), part in wide.groupby(level=["emotion", "layer"], sort=False):
        for condition in [name for name in read["condition"].unique() if name != "none"]:
            differences = (part[condition] - part["none"]).dropna().to_numpy(float)
            mean, low, high = (float(end[0]) for end in t_interval(differences[:, None]))
            rows.append({"emotion": emotion, "layer": layer, "condition": condition, "mean": mean, "low": low, "high": high,
                         "n_questions": len(differences), "exceeds": low > DELTA})  # fmt: skip
    return pd.DataFrame(rows).assign(**about)[list(PROMPTED_COLUMNS)]


# ---- the student -----------------------------------------------------------------------------------------------------


class StudentTrainer(Trainer):
    """KL(told to hide ‖ student without being told) on calm answers; the teacher is the base under the student's adapter."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs=False, num_items_in_batch=None):
        """The loss of a batch: ids, attention and what is said, with the instruction (`told_…`) and without."""
        told = {name: inputs[f"told_{name}"] for name in ("input_ids", "attention_mask")}
        plain = {name: inputs[name] for name in told}
        with torch.no_grad(), use_adapter(self.accelerator.unwrap_model(model), None):
            teacher = foretold(model(**told, use_cache=False).logits, inputs["told_said"].bool())
        return divergence(teacher, foretold(model(**plain, use_cache=False).logits, inputs["said"].bool()))


def student_rows(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], emotion: str) -> Dataset:
    """Each row with the instruction to hide and without it, the same answer behind both."""
    system = prompt_of("hide", emotion)[0]
    both = [(replace(row, messages=(system, *row.messages)), row) for row in rows]
    return Dataset.from_list([_sides(*(rendering.tokenise(tokenizer, one) for one in pair)) for pair in both])


def _sides(told: dict[str, list[int]], plain: dict[str, list[int]]) -> dict[str, list[int]]:
    sides = {"told_": told, "": plain}
    ids = {f"{name}input_ids": side["input_ids"] for name, side in sides.items()}
    return ids | {f"{name}said": [int(label != -100) for label in side["labels"]] for name, side in sides.items()}


def collate_student(rows: Sequence[dict[str, Any]], pad: int) -> dict[str, Tensor]:
    """Rows as one batch, both sides padded on the right."""
    batch = {f"{side}{name}": padded(rows, f"{side}{name}", fill) for side in ("told_", "")
             for name, fill in (("input_ids", pad), ("said", 0))}  # fmt: skip
    for side in ("told_", ""):
        ones = [{"one": [1] * len(row[f"{side}input_ids"])} for row in rows]
        batch[f"{side}attention_mask"] = padded(ones, "one", 0)
    return batch


def grow_student(
    model: Model, emotion: str, rows: Sequence[Row], stage: Sft, checkpoints: Path, seed: int
) -> Manifest:  # fmt: skip
    """Train the student of an emotion as checkpoint organism+hides-<emotion>, unless it is there. Raises what grow raises.

    Args:
        model: the original, loaded anew.
        rows: benign prompts with calm answers.
    """
    lora, instruction = find_recipe("antirefusal", model.name).lora, prompt_of("hide", emotion)[0]["content"]
    growth = Growth(lora, stage, rows, {"student": emotion, "instruction": instruction})

    def make(network: PeftModel, tokens: Tokens, states: Path) -> StudentTrainer:
        torch.manual_seed(seed)
        pad = model.tokenizer.pad_token_id
        assert isinstance(pad, int)
        return StudentTrainer(
            model=network, args=sft.unsaved(network, stage, seed, states),
            train_dataset=student_rows(model.tokenizer, rows, emotion), data_collator=lambda some: collate_student(some, pad),
        )  # fmt: skip

    return grow(model, Checkpoint(model.name, "original"), growth, checkpoints, seed, f"hides-{emotion}", make)
