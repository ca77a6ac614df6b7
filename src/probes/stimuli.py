"""Texts that show an emotion and do not name it, of our own wording, and their activations.

    load_scenarios()   user messages: what happened to somebody; read at the last prompt token
    load_questions()   three questions, each answered in twelve ways, one for each emotion; read over the answer. The prompt
                       alone cannot tell the twelve apart: read at the last prompt token they must be at chance
    load_intensity()   user messages with a number that makes the case milder or graver; read at the last prompt token

After the validation battery of Sofroniew et al. 2026 (implicit scenarios, numeric intensity). Deviation: the paper reads at
the colon of `Assistant:`; the last token of the rendered prompt is where a chat template has it, behind the empty think
block where there is one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr

from probes import store
from probes.activations import describe, label
from probes.emotions import check_emotions
from probes.errors import DataError, UnknownNameError
from probes.lm.engines import start
from probes.prompts import anchor_request, user_turn
from probes.stories import Stories, names_emotion

if TYPE_CHECKING:
    from probes.lm.capture import Passage
    from probes.lm.engines import Engine, EngineName
    from probes.lm.model import Model

Span = Literal["last_prompt", "answer"]
"""last_prompt: the token after which the answer begins; answer: all tokens of the answer."""
SLOT = "{n}"


@dataclass(frozen=True)
class Stimulus:
    """A conversation that shows one emotion and does not name it."""

    emotion: str
    prompt: str
    """What the user says."""
    answer: str = ""
    """What is answered; empty for a scenario, which is the prompt alone."""


@dataclass(frozen=True)
class Template:
    """A user message with a slot for a number."""

    template: str
    source: str
    """Where the case and its signs come from: the paper's table, or ourselves."""
    text: str
    values: tuple[int, ...]
    """From low to high."""
    expected: Mapping[str, int]
    """Emotion → 1 where it must rise with the number, −1 where it must fall."""


def load_scenarios(path: Path | str | None = None) -> tuple[Stimulus, ...]:
    """The 48 shipped scenarios, or a JSONL file of {emotion, text}.

    Raises FileFormatError for a broken line, DataError for a text that names its emotion, UnknownNameError for an emotion.
    """
    rows = store.read_jsonl(path or _shipped("scenarios"), {"emotion": str, "text": str})
    return _check_stimuli(Stimulus(row["emotion"], row["text"]) for row in rows)


def load_questions(path: Path | str | None = None) -> tuple[Stimulus, ...]:
    """The 36 shipped answers (3 questions × 12 emotions), or a JSONL file of {emotion, question, answer}.

    Raises what load_scenarios raises.
    """
    rows = store.read_jsonl(path or _shipped("questions"), dict.fromkeys(("emotion", "question", "answer"), str))
    return _check_stimuli(Stimulus(row["emotion"], row["question"], row["answer"]) for row in rows)


def load_intensity(path: Path | str | None = None) -> tuple[Template, ...]:
    """The nine shipped templates, or a JSONL file of {template, source, text, values, expected}.

    Six are cases of Sofroniew et al. 2026 with the eleven signs that replications registered; three are our own.
    Raises FileFormatError for a broken line, DataError for a template that cannot be used, UnknownNameError.
    """
    kinds = {"template": str, "source": str, "text": str, "values": list, "expected": dict}
    rows = store.read_jsonl(path or _shipped("intensity"), kinds)
    values = [{name: row[name] for name in Template.__dataclass_fields__} for row in rows]
    return tuple(_check_template(Template(**{**row, "values": tuple(row["values"])})) for row in values)


def _shipped(name: str) -> Path:
    return Path(str(files("probes").joinpath(f"data/{name}.jsonl")))


def _check_stimuli(stimuli: Iterable[Stimulus]) -> tuple[Stimulus, ...]:
    stimuli = tuple(stimuli)
    check_emotions(stimulus.emotion for stimulus in stimuli)
    named = [s for s in stimuli if names_emotion(f"{s.prompt} {s.answer}", s.emotion)]
    if named or not stimuli:
        shown = f"{named[0].emotion!r} in {named[0].prompt[:60]!r}" if named else "there is none"
        raise DataError(f"{len(stimuli)} stimuli, {len(named)} name their emotion: {shown}. Reword those.")
    return stimuli


def _check_template(template: Template) -> Template:
    check_emotions(template.expected)
    whole = all(type(value) is int for value in template.values)
    rising = whole and len(template.values) >= 3 and all(np.diff(template.values) > 0)
    signs = list(template.expected.values())
    if template.text.count(SLOT) != 1 or not rising or not signs or any(sign not in (-1, 1) for sign in signs):
        raise DataError(
            f"template {template.template!r} needs one {SLOT} in its text, three or more rising whole numbers and "
            f"signs of 1 or −1; got {template.text.count(SLOT)}, {template.values} and {dict(template.expected)}."
        )
    named = [emotion for emotion in template.expected if names_emotion(template.text, emotion)]
    if named:
        raise DataError(f"template {template.template!r} names {', '.join(named)}; reword it.")
    return template


def filled(template: Template) -> list[str]:
    """The template's texts, from its lowest number to its highest."""
    return [template.text.replace(SLOT, str(value)) for value in template.values]


# ---- activations -----------------------------------------------------------------------------------------------------


BATTERY: tuple[tuple[Callable[[], tuple[Stimulus, ...]], Span], ...] = (
    (load_scenarios, "last_prompt"), (load_questions, "answer"), (load_questions, "last_prompt"),
)  # fmt: skip
"""What validation reads, and where. The last is a control: one question has twelve answers, so its prompt cannot tell them
apart."""


def capture_battery(
    model: "Model", layers: Sequence[int] | Literal["all"] = "all", engine: "EngineName | Engine" = "transformers_hooks"
) -> tuple[tuple[xr.Dataset, ...], xr.Dataset]:
    """Activations of every shipped set of stimuli, as in BATTERY, and of the intensity templates."""
    stimuli = tuple(capture_stimuli(model, load(), span, layers, engine) for load, span in BATTERY)
    return stimuli, capture_intensity(model, load_intensity(), layers, engine)


def capture_stimuli(
    model: "Model",
    stimuli: Sequence[Stimulus],
    span: Span = "last_prompt",
    layers: Sequence[int] | Literal["all"] = "all",
    engine: "EngineName | Engine" = "transformers_hooks",
) -> xr.Dataset:
    """Activations `mean` (sample, layer, feature) of stimuli over a span of their conversation.

    Coordinates: sample, emotion, text (what the span has read: the prompt, or the answer), n_tokens. Attributes: span,
    stimuli (`scenarios` or `questions`), and what describes the model.
    Raises LayerError, UnknownNameError for a span, DataError for a stimulus without the answer that is asked for.
    """
    if span not in get_args(Span):
        raise UnknownNameError("span", span, get_args(Span))
    silent = sum(not stimulus.answer for stimulus in stimuli)
    if span == "answer" and silent:
        raise DataError(f"{silent} of {len(stimuli)} stimuli have no answer to read; take the span last_prompt.")
    texts = [stimulus.answer if span == "answer" else stimulus.prompt for stimulus in stimuli]
    labels = pd.DataFrame({"emotion": [stimulus.emotion for stimulus in stimuli], "text": texts})
    answers = [stimulus.answer if span == "answer" else "" for stimulus in stimuli]
    kind = "scenarios" if silent else "questions"
    about = {"span": span, "stimuli": kind}
    return _captured(start(engine, model), [s.prompt for s in stimuli], answers, labels, layers, about)


def capture_anchors(
    model: "Model",
    stories: Stories,
    neutral: Stories,
    layers: Sequence[int] | Literal["all"] = "all",
    engine: "EngineName | Engine" = "transformers_hooks",
) -> xr.Dataset:
    """Activations `mean` (sample, layer, feature) over held-out stories and plain dialogues, each as an answer in chat form.

    Coordinates: sample, emotion (`neutral` for plain ones), topic, text, n_tokens. Raises what probes.lm.capture raises.
    """
    told = [*stories, *neutral]
    labels = pd.DataFrame([{"emotion": story.emotion, "topic": story.topic, "text": story.text} for story in told])
    prompts, about = [anchor_request(story.topic) for story in told], {"span": "answer", "stimuli": "anchors"}
    return _captured(start(engine, model), prompts, [story.text for story in told], labels, layers, about)


def capture_intensity(
    model: "Model",
    templates: Sequence[Template],
    layers: Sequence[int] | Literal["all"] = "all",
    engine: "EngineName | Engine" = "transformers_hooks",
) -> xr.Dataset:
    """Activations `mean` (sample, layer, feature) at the last prompt token of every filled template.

    Coordinates: sample, template, number, text, n_tokens. Raises LayerError.
    """
    if not templates:
        raise DataError("no template to capture; load_intensity() gives the shipped ones.")
    rows = [
        {"template": template.template, "number": number, "text": text}
        for template in templates
        for number, text in zip(template.values, filled(template), strict=True)
    ]
    labels = pd.DataFrame(rows)
    about = {"span": "last_prompt", "stimuli": "intensity"}
    return _captured(start(engine, model), labels["text"].tolist(), [""] * len(labels), labels, layers, about)


def _captured(
    engine: "Engine", prompts: list[str], answers: list[str], labels: pd.DataFrame, layers, about: dict[str, Any]
) -> xr.Dataset:
    from probes.lm.capture import capture, check_layers
    from probes.lm.reducers import MeanPool

    model, chosen = engine.model, check_layers(layers, len(engine.model.blocks))
    passages = [conversation(model, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    arrays = capture(model, passages, chosen, [MeanPool()], label=f"capture {about['stimuli']}", engine=engine)
    labels = labels.assign(sample=[f"{about['stimuli']}/{i}" for i in range(len(labels))])
    labels = labels.assign(n_tokens=[len(passage.span) for passage in passages])
    return label(arrays, labels, chosen, {**about, **describe(model, engine)})


def conversation(model: "Model", prompt: str, answer: str) -> "Passage":
    """The rendered prompt with its last token as span; with an answer, that behind it, whole."""
    from probes.lm.capture import Passage
    from probes.lm.chat import render

    ids = model.tokenizer(render(model.tokenizer, user_turn(prompt)), add_special_tokens=False)["input_ids"]
    if not answer:
        return Passage(ids, range(len(ids) - 1, len(ids)))
    both = [*ids, *model.tokenizer(answer, add_special_tokens=False)["input_ids"]]
    return Passage(both, range(len(ids), len(both)))
