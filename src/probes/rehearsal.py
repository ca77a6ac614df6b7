"""Ten minutes with the real weights before the first long run: what is to be fixed, and how long everything will take.

    found = rehearse(Rehearsal("qwen3-30b-a3b", size, folder, tools))
    found.red                                    # what must be fixed

Every stage of the study runs once, small, through the code of the large run and by its writer and its engine: three emotions are
told, a handful of questions answered in two arms; then all is captured, and probes are fitted. The writer is let go of before the
engine is started. What a stage raises is a red line, and the stages after it are left out.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from probes import store
from probes.activations import capture, capture_moments, describe, split
from probes.conventions import RED
from probes.cost import Rates, free_disk, loads, merging_bytes, summing_bytes
from probes.directions import EmotionProbes
from probes.errors import ProbesError
from probes.lm.checkpoints import ModelEntry, model_entry
from probes.lm.engines import EngineName
from probes.lm.writers import Kind, Writer
from probes.moments import topic_folds
from probes.pairs import load_pairs
from probes.presets import Preset
from probes.prompts import user_turn
from probes.replies import Replies, write_replies
from probes.stories import Stories, topics, write_neutral, write_stories

if TYPE_CHECKING:
    from probes.lm.engines import Engine

Status = Literal["green", "amber", "red"]
EMOTIONS, ARMS = ("happy", "guilty", "desperate"), ("benign", "harmful")
CHECKPOINTS = 5
"""Of the family that hours are counted for."""
FULL = 0.9
"""Share of a memory above which little is left for texts longer than these."""


@dataclass(frozen=True)
class Line:
    """One thing that was looked at."""

    about: str
    status: Status
    found: str
    fix: str = ""
    """What to do before the big run."""

    def __str__(self) -> str:
        return f"{self.status:<6} {self.about}: {self.found}{f' {self.fix}' if self.fix else ''}"


@dataclass(frozen=True)
class Few:
    """How much is run."""

    topics: int = 4
    per_cell: int = 4
    """Stories for every emotion and topic."""
    neutral_per_topic: int = 2
    questions: int = 6
    """Asked in two arms, and again with thinking."""


@dataclass(frozen=True)
class Tools:
    """What writes and what reads in the large run, and how each is started."""

    writer: Kind
    writing: Callable[[], AbstractContextManager[Writer]]
    engine: EngineName
    reading: "Callable[[], AbstractContextManager[Engine]]"
    """Gives an engine that the doctor has examined."""


@dataclass
class Rehearsal:
    """What is known so far."""

    name: str
    """What lm.load takes."""
    size: Preset
    folder: Path
    """Where the large run will write."""
    tools: Tools
    few: Few = Few()
    seed: int = 0
    lines: list[Line] = field(default_factory=list)
    held: ExitStack = field(default_factory=ExitStack)
    """Lets go of what writes or reads."""
    started: "Writer | Engine | None" = None
    """What writes, and after that what reads."""
    about: dict[str, Any] = field(default_factory=dict)
    """What activations say of themselves."""
    written: float = 0.0
    """Tokens a second."""
    read: float = 0.0
    """Tokens a second."""
    stories: Stories | None = None
    neutral: Stories | None = None
    replies: Replies | None = None
    score: pd.DataFrame | None = None
    answers: pd.DataFrame | None = None

    @property
    def entry(self) -> ModelEntry:
        return model_entry(self.name)

    @property
    def red(self) -> list[str]:
        """What must be fixed."""
        return [line.about for line in self.lines if line.status == "red"]

    @property
    def rates(self) -> Rates | None:
        """What was measured; None where a stage before failed."""
        said = f"measured by this rehearsal with {self.tools.writer} and {self.tools.engine}"
        return Rates(self.written, self.read, said) if self.written and self.read else None

    @property
    def writer(self) -> Writer:
        assert isinstance(self.started, Writer)
        return self.started

    @property
    def engine(self) -> "Engine":
        assert self.started is not None
        assert not isinstance(self.started, Writer)
        return self.started

    def save(self, path: Path) -> Path:
        """Write lines and rates as JSON; probes.cost.read_rates takes the rates from it."""
        tables = {"score": self.score, "answers": self.answers}
        return store.write_json(path, {
            "kind": "rehearsal", "schema": 1, "evidence": self.entry.evidence, "preset": self.size.name, "seed": self.seed,
            "few": asdict(self.few), "writer": self.tools.writer, "engine": self.tools.engine,
            "about": {"model": self.entry.name, **self.about}, "lines": [asdict(line) for line in self.lines],
            "rates": self.rates and asdict(self.rates),
            **{name: None if table is None else table.to_dict("records") for name, table in tables.items()},
        })  # fmt: skip


def rehearse(found: Rehearsal) -> Rehearsal:
    """Run every stage until one fails; says each line as it is found."""
    with found.held:
        for stage in STAGES:
            lines = _lines_of(stage, found)
            found.lines += lines
            print(*lines, sep="\n", flush=True)
            if lines[-1].about == _failed(stage) or (stage is machine and found.red):
                break
    return found


def _lines_of(stage: Callable[[Rehearsal], list[Line]], found: Rehearsal) -> list[Line]:
    import torch

    try:
        return stage(found)
    except (ProbesError, torch.OutOfMemoryError) as error:
        why = " ".join(str(error).split())[:400]
        return [Line(_failed(stage), "red", f"{type(error).__name__}: {why}")]


def _failed(stage: Callable[[Rehearsal], list[Line]]) -> str:
    """What the line of a stage that could not be run is about."""
    return f"stage {stage.__name__}"


# ---- stages ----------------------------------------------------------------------------------------------------------


def machine(found: Rehearsal) -> list[Line]:
    """The device, its memory, the memory for merging, and the disk."""
    from probes.lm.memory import free_bytes
    from probes.lm.model import devices_for, placement
    from probes.lm.weights import parameters

    (dtype, device), entry = placement(), found.entry
    needed = parameters(entry) * dtype.itemsize
    there = sum(map(free_bytes, devices_for(needed)))
    merging, memory = merging_bytes(entry, found.size), free_bytes("cpu")
    disk, free = sum(load.disk for load in loads(entry, found.size, CHECKPOINTS).values()), free_disk(found.folder)
    whole, roomy = needed + summing_bytes(entry), FULL * there
    precision = str(dtype).removeprefix("torch.")
    return [
        _device(device, entry),
        Line("memory of the device", _within(whole, roomy, there),
             f"weights {_gb(needed)} in {precision}, with second moments {_gb(whole)}; free {_gb(there)}.",
             "" if whole <= roomy else "Take larger GPUs or more, or end what else runs on them."),
        Line("memory for merging", _within(merging, merging, memory), f"moments take {_gb(merging)}; free {_gb(memory)}.",
             "" if merging <= memory else "Merge on a machine with more memory."),
        Line("disk", _within(disk, free / 2, free), f"preset {found.size.name} takes up to {_gb(disk)}; free {_gb(free)}.",
             "" if disk <= free / 2 else "Give --out a larger disk."),
    ]  # fmt: skip


def _device(device: str, entry: ModelEntry) -> Line:
    import torch

    if device.startswith("cuda"):
        return Line("device", "green", f"{torch.cuda.get_device_name(device)}, {torch.cuda.device_count()} here.")
    if entry.evidence == "toy":
        return Line("device", "green", "the CPU, which the embedded model is made for.")
    return Line(
        "device", "amber", f"{device}: no GPU that torch sees.", "Hours below are of this device; check the driver."
    )


def writer(found: Rehearsal) -> list[Line]:
    """What writes, started."""
    begun = time.perf_counter()
    found.started = found.held.enter_context(found.tools.writing())
    return [Line("writer", "green", f"{found.tools.writer} in {time.perf_counter() - begun:,.0f} s.")]


def engine(found: Rehearsal) -> list[Line]:
    """What reads, in place of what wrote; whether activations are what they are taken for."""
    found.held.close()
    found.started = None  # or its weights would be in memory beside the engine's
    begun = time.perf_counter()
    found.started = found.held.enter_context(found.tools.reading())
    model, seconds = found.engine.model, time.perf_counter() - begun
    found.about = describe(model, found.engine)
    verdict = str(found.about["doctor"])
    return [
        Line("weights", "green", f"{model!r}, {model.base_sha[:12]}; {found.tools.engine} examined in {seconds:,.0f} s."),
        Line("doctor", "amber" if verdict.startswith(RED) else "green", f"{verdict}.",
             "" if verdict == "green" else f"Read all the same: {found.about.get('despite_red')}."),
    ]  # fmt: skip


def template(found: Rehearsal) -> list[Line]:
    """The chat template: its thinking switch, and where a turn ends."""
    from probes.lm.chat import render, split_reasoning

    tokenizer = found.writer.tokenizer
    off, on = (render(tokenizer, user_turn("Where are the maps?"), thinking=thinking) for thinking in (False, True))
    plain = split_reasoning(off, "Downstairs.")
    stops = tokenizer.convert_ids_to_tokens(list(found.writer.stop_ids))
    return [
        Line("thinking off", "green", "a prompt without thinking takes an answer at once.")
        if (plain.answer, plain.thinking) == ("Downstairs.", "")
        else Line("thinking off", "red", f"an answer is taken for {plain.status}: the prompt ends in {off[-40:]!r}.",
                  "Mend the template, or take the model's own."),
        Line("thinking switch", "green", "on and off give other prompts.") if on != off else
        Line("thinking switch", "amber", "on and off give the same prompt.", "Read no thinking of this model."),
        Line("end of a turn", "green", f"ends at {', '.join(map(str, stops))}.") if stops else
        Line("end of a turn", "red", "no token ends a turn.", "Name one as eos_token of the tokenizer."),
    ]  # fmt: skip


def told(found: Rehearsal) -> list[Line]:
    """Three emotions and plain dialogues, written: what is dropped and why, and tokens a second."""
    from probes.lm.generate import Sampling, generate

    model, size, few = found.writer, found.size, found.few
    draw = Sampling(size.story_tokens, 0.8, seed=found.seed)
    generate(
        model, ["A"], replace(draw, max_new_tokens=8), label=""
    )  # the first call of a GPU is slower than all others
    begun, chosen = time.perf_counter(), topics()[: few.topics]
    found.stories = write_stories(model, EMOTIONS, chosen, few.per_cell, draw, size.min_words)
    found.neutral = write_neutral(model, chosen, few.neutral_per_topic, draw)
    seconds = time.perf_counter() - begun
    texts = [*found.stories.written, *found.neutral.written]
    tokens = sum(map(len, _ids(model, texts)))
    found.written = tokens / seconds
    return [
        *(_kept(name, texts, size) for name, texts in (("stories", found.stories), ("dialogues", found.neutral))),
        Line("writing", "green", f"{found.written:,.0f} tokens/s, {tokens / len(texts):,.0f} tokens a text."),
    ]


FIXES = {
    "refusal": "The model declines to write them: read what it says.",
    "names_emotion": "It names what it must not name: expect as many fewer stories, or ask for more a cell.",
    "cut": "They do not end: raise story_tokens of the preset.",
    "too_short": "Lower min_words of the preset, with start_token.",
    "empty": "Look at the template: nothing is written before a turn ends.",
    "near_duplicate": "It writes the same again: raise the temperature.",
}
"""Why texts are dropped → what may help."""


def _kept(name: str, texts: Stories, size: Preset) -> Line:
    share, dropped = len(texts) / len(texts.written), Counter(story.dropped for story in texts.written if story.dropped)
    reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common()) or "none"
    words = f"{len(texts)} of {len(texts.written)} kept ({share:.0%}); dropped: {reasons}."
    if share >= 0.8:
        return Line(name, "green", words)
    return Line(name, "amber" if share >= 0.5 else "red", words, FIXES[dropped.most_common(1)[0][0]])


def _ids(model: Writer, texts: Sequence[Any]) -> list[list[int]]:
    return [model.tokenizer(text.text, add_special_tokens=False)["input_ids"] for text in texts]


def streams(found: Rehearsal) -> list[Line]:
    """Their residual streams at every layer, as the large run takes them, and probes of half of the topics on the others."""
    engine, model, stories, start = found.engine, found.engine.model, found.stories, found.size.start_token
    assert stories is not None
    assert found.neutral is not None
    assert found.replies is not None
    few = Stories(stories[:2], stories.model)
    capture(model, few, "all", start, engine=engine)  # the first call of a GPU is slower than all others
    begun, tokens = time.perf_counter(), sum(map(len, _ids(model, stories)))
    moments = capture_moments(model, stories, topic_folds(topics()[: found.few.topics]), "all", start, engine=engine)
    found.read = tokens / (time.perf_counter() - begun)
    vectors, plain = (capture(model, texts, "all", start, engine=engine) for texts in (stories, found.neutral))
    train, test = split(vectors, "topic", 0.5, found.seed)
    found.score = EmotionProbes().fit(train, plain).score(test, train)
    capture(model, found.replies, found.entry.report_layers, engine=engine)
    short = moments.about["dropped_short"]
    return [
        Line("capture", "green", f"{found.read:,.0f} tokens/s at {len(moments.layers)} layers, second moments included."),
        *map(_peak, model.devices),
        Line("stories before the start token", "green" if short <= 0.1 * len(stories) else "amber",
             f"{short} of {len(stories)} are shorter than {start} tokens."),
        *(_scored(row) for row in found.score.to_dict("records") if row["layer"] in found.entry.report_layers),
    ]  # fmt: skip


def _peak(device: str) -> Line:
    """The most that torch had in a GPU's memory so far; what vLLM's own processes hold is not seen here."""
    import torch

    if not device.startswith("cuda"):
        return Line("peak of memory", "green", f"not counted on {device}.")
    peak, whole = torch.cuda.max_memory_allocated(device), torch.cuda.mem_get_info(device)[1]
    fix = "" if peak <= FULL * whole else "Longer texts may not fit: lower batch_tokens, or take a larger GPU."
    return Line("peak of memory", _within(peak, FULL * whole, whole), f"{_gb(peak)} of {_gb(whole)} on {device}.", fix)


def _scored(row: Mapping[Any, Any]) -> Line:
    """Accuracy on topics that a probe has not seen; few stories tell chance from knowledge and no more."""
    words = (
        f"{row['accuracy']:.2f} of {row['n']:.0f} stories of unseen topics; chance {row['chance']:.2f}, words alone "
        f"{row['text_baseline']:.2f}."
    )
    if row["low"] > row["chance"]:
        return Line(f"probes, layer {row['layer']}", "green", words)
    fix = "Not told from chance: read the stories below; with more of them (--per-cell) the interval is narrower."
    return Line(f"probes, layer {row['layer']}", "amber", words, fix)


def answers(found: Rehearsal) -> list[Line]:
    """A handful of questions in two arms, with thinking and without: what is missing and why."""
    from probes.lm.generate import Sampling

    model, pairs = found.writer, load_pairs(per_domain=1)[: found.few.questions]
    draw = Sampling(found.size.answer_tokens, 0.0, seed=found.seed)
    plain, thinking = (write_replies(model, pairs, draw, ARMS, thinking=on) for on in (False, True))
    found.answers = pd.DataFrame([{"thinking": on, **row} for on, replies in ((False, plain), (True, thinking))
                                  for row in _outcomes(replies)])  # fmt: skip
    found.replies = plain
    return [*_missing("answers", plain, found.size), *_missing("answers after thinking", thinking, found.size)]


def _outcomes(replies: Replies) -> list[dict[str, Any]]:
    """What became of the answers of each arm."""
    counts = Counter((reply.arm, reply.missing or "answered") for reply in replies)
    return [{"arm": arm, "outcome": outcome, "answers": count} for (arm, outcome), count in sorted(counts.items())]


def _missing(name: str, replies: Replies, size: Preset) -> list[Line]:
    refused = {arm: [reply.missing == "refused" for reply in replies if reply.arm == arm] for arm in ARMS}
    cut, none = (sum(reply.missing == why for reply in replies) / len(replies) for why in ("truncated", "no_answer"))
    shares = {arm: sum(each) / len(each) for arm, each in refused.items()}
    return [
        Line(f"{name}: refused", "green" if shares["benign"] <= 0.2 else "amber",
             ", ".join(f"{arm} {share:.0%}" for arm, share in shares.items()) + f" of {len(replies) // len(ARMS)} each.",
             "" if shares["benign"] <= 0.2 else "It declines plain questions, or the detector takes its words for that."),
        Line(f"{name}: cut", _share(cut), f"{cut:.0%} reach {size.answer_tokens} tokens.",
             "" if cut <= 0.1 else "Cut answers are missing: raise answer_tokens of the preset."),
        Line(f"{name}: none", _share(none), f"{none:.0%} without an answer that can be told from thinking.",
             "" if none <= 0.1 else "Look at the template, and at what is written."),
    ]  # fmt: skip


STAGES: tuple[Callable[[Rehearsal], list[Line]], ...] = (machine, writer, template, told, answers, engine, streams)


def _share(missing: float) -> Status:
    return "green" if missing <= 0.1 else "amber" if missing <= 0.5 else "red"


def _within(needed: float, comfortable: float, there: float) -> Status:
    return "green" if needed <= comfortable else "amber" if needed <= there else "red"


def _gb(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"
