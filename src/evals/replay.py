"""Inspect logs → activations: what was said in an evaluation, put through a checkpoint again, beside what it counted for.

    activations = replay(model, log)                    every turn of the model, as probes.activations.capture gives replies
    readings = probes.read(activations)
    table = beside_scores(readings, activations, answer_table([log]))

A log keeps texts, and of checkpoints of ours the token ids that were generated. Each call of the model is rendered again
with the tokenizer and template of the model that reads, as providers.CheckpointAPI renders it (tools written out, the
thinking switch of the log), and what was said to it follows, teacher-forced. Where the prompt then has the very ids that
were generated from, the generated ids are read; of another provider's logs, or in a model with another tokenizer, the text
is tokenised again. The coordinate `tokens` says which of the two, sample by sample.

A reading joins the table of answers by `sample`, which is eval/condition/question/epoch/turn/log; turns count from 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import xarray as xr
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, EvalSample, resolve_sample_attachments

from evals.answers import ANSWERS, CUT, split_output
from evals.providers import as_turns
from evals.tables import answer_table, read_log
from probes import store
from probes.activations import capture_passages
from probes.errors import ConventionError, DataError, MissingInputError, UnknownNameError
from probes.lm.chat import CLOSE, OPEN, Split, render, token_spans
from probes.readings import check_readings
from probes.replies import REASONS

if TYPE_CHECKING:
    from probes.lm.capture import Passage
    from probes.lm.engines import Engine, EngineName
    from probes.lm.model import Model

SPANS = ("answer", "thinking")
GENERATED, AGAIN = "generated", "tokenised again"
"""Whether the ids that are read are those that were generated, or what this tokenizer makes of the text."""
NOT_ASKED, NO_THINKING, NOT_SPELT = "not_asked", "no_thinking", "not_spelt"
"""Why a turn is missing, beside truncated and no_answer: the conversation ended before it; there was no reasoning; its
tokens do not spell the text exactly, as where a think tag is written out of ordinary tokens."""
CONVERSATION = ("eval", "condition", "question", "epoch", "log")
"""What answer_table and activations both name a conversation by."""
SELF_REPORTS = {
    "regret": ("regret", "regret_if_complied"),
    "self_description": ("helpful_only", "helpful_harmless", "mixed", "no_description"),
}
"""Evaluation → those of its metrics that are what the model says of itself; all others are behaviour."""
TABLE_COLUMNS = (
    "model", "checkpoint", "weights", "seed", "written_by", "written_weights", "text_source", "evidence", "eval", "condition",
    "question", "epoch", "turn", "log", "reasoning", "language", "data", "sample", "span", "n_tokens", "tokens", "cut",
    "missing", "layer", "emotion", "readout", "aggregation", "baseline", "value", "probes", "layer_convention", "judge",
    "metric", "kind", "score", "score_missing", "regret", "regret_if_complied", "self_description", "self_report_missing",
)  # fmt: skip
"""model … seed: who was read; written_by, written_weights: whose words they are. value: the reading, `missing` why it must
not be taken for one of an answer; score: what the answer counts for by metric and judge, score_missing why it is NaN;
regret, regret_if_complied: what the model said when asked (the last turn), as judged; self_description: the kind of
assistant that it describes; self_report_missing: why there is neither, `not_asked` in other evaluations."""


# ---- activations -----------------------------------------------------------------------------------------------------


def replay(
    model: "Model",
    log: EvalLog | Path | str,
    layers: Sequence[int] | Literal["all"] = "all",
    span: str = "answer",
    swap: bool = False,
    batch_tokens: int = 16_384,
    engine: "EngineName | Engine" = "transformers_hooks",
) -> xr.Dataset:
    """Put every turn of the model in one log through a checkpoint, and pool every layer over a span of it.

    Args:
        span: `answer` or `thinking`; without the empty think block, the template's line ends and the stop token.
        swap: read text that other weights wrote, or weights that the log does not name (prefill swap). Its `text_source` is
            then the writer's address, and not `own`.
        layers, batch_tokens, engine: as in probes.activations.capture.

    Returns `mean` and `unit_mean` (sample, layer, feature) with the labels of readings (`arm` is the condition), those of
    CONVERSATION, `turn`, `tokens`, `cut`, `written_by` and `written_weights`. A turn without the span is NaN, and every
    one that must not be compared as an answer says why in `missing`: truncated, no_answer, or one of the constants above.
    Raises what answer_table and capture raise; UnknownNameError for another span; ConventionError for text of other
    weights without `swap`, or of these weights from prompts that render otherwise now; DataError where no turn has the
    span, or the log keeps no calls of the model.
    """
    from probes.lm.engines import start

    if span not in SPANS:
        raise UnknownNameError("span", span, SPANS)
    whole = log if isinstance(log, EvalLog) else read_log(log)
    answers = answer_table([whole])
    own = _check_writer(model, answers.iloc[0], swap)
    turns = [turn for sample in _in_order(whole) for turn in _turns(model, sample, bool(answers["reasoning"].iloc[0]))]
    if own:
        _check_prompts(model, turns, answers["log"].iloc[0])
    kept = [place for place, turn in enumerate(turns) if turn.span(span)]
    if not kept:
        raise DataError(f"none of {len(turns)} turns in {answers['log'].iloc[0]} has {span} to read.")
    labels = pd.DataFrame([_labels(turn, span, answers.iloc[0]) for turn in turns])
    labels = labels.assign(**_identity(model, answers.iloc[0], own))
    passages = [turns[place].passage(span) for place in kept]
    return capture_passages(start(engine, model), passages, kept, labels, layers, batch_tokens, "replay")


def _in_order(log: EvalLog) -> list[EvalSample]:
    """Samples as the table of answers has them, whatever order they were finished in."""
    return sorted(log.samples or [], key=lambda one: (one.metadata["condition"], one.metadata["question"], one.epoch))


def _check_writer(model: "Model", written: pd.Series, swap: bool) -> bool:
    """Whether the log's answers are of these very weights. Raises ConventionError where not, unless that is asked for."""
    own = (written["model"], written["checkpoint"], written["weights"]) == (
        model.name, model.checkpoint.name, model.weights,
    )  # fmt: skip
    if not own and not swap:
        weights = written["weights"][:12] or "not named"
        raise ConventionError(
            f"{written['log']} is of {written['model']}/{written['checkpoint']} (weights {weights}), given to {model.address} "
            f"(weights {model.weights[:12]}). Load that checkpoint, name it when the evaluation is run (--metadata model=… "
            "checkpoint=… weights=…), or ask for swap=True to read another's text here."
        )
    return own


def _identity(model: "Model", written: pd.Series, own: bool) -> dict[str, Any]:
    """What all turns of a log have in common: who reads, who wrote, and where it stands."""
    writer = f"{written['model']}/{written['checkpoint']}"
    return {
        "checkpoint": model.checkpoint.name, "seed": model.checkpoint.seed, "text_source": "own" if own else writer,
        "written_by": writer, "written_weights": written["weights"], "eval": written["eval"], "log": written["log"],
    }  # fmt: skip


# ---- turns -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One turn of the model in a conversation, as the tokens that this model reads it by."""

    question: str
    condition: str
    epoch: int
    number: int
    """From 1."""
    status: str
    """As split_reasoning has it, or not_asked."""
    cut: bool = False
    """Whether it stops at the token limit."""
    thought: bool = False
    tokens: str = ""
    """GENERATED or AGAIN; empty where nothing was asked."""
    ids: tuple[int, ...] = ()
    """Prompt and completion."""
    answer: range = range(0)
    """Positions in `ids`."""
    thinking: range = range(0)
    rendered_otherwise: bool = False
    """Whether the log has ids for it that were generated from another prompt than it renders to now."""

    def span(self, name: str) -> range:
        """Positions of a span; empty for nothing to read."""
        return self.answer if name == "answer" else self.thinking

    def missing(self, name: str) -> str:
        """Why it must not be compared as an answer, or as thinking; empty where it may."""
        if self.status != "ok":
            return REASONS.get(self.status, self.status)
        return "" if self.span(name) else NOT_SPELT if name == "answer" or self.thought else NO_THINKING

    def passage(self, name: str) -> "Passage":
        """What is run through the model: up to the end of the span."""
        from probes.lm.capture import Passage

        where = f"{self.condition}/{self.question}/{self.epoch}/{self.number}"
        return Passage(self.ids[: self.span(name).stop], self.span(name), where)


def _labels(turn: Turn, span: str, written: pd.Series) -> dict[str, Any]:
    """What is known of one turn, and the name by which it joins."""
    where = f"{turn.condition}/{turn.question}/{turn.epoch}/{turn.number}"
    return {
        "sample": f"{written['eval']}/{where}/{written['log']}",
        "domain": written["eval"], "pair": turn.question, "question": turn.question,
        "arm": turn.condition, "condition": turn.condition, "control": 0,
        "epoch": turn.epoch, "turn": turn.number, "span": span, "missing": turn.missing(span), "cut": turn.cut,
        "tokens": turn.tokens, "n_tokens": len(turn.span(span)),
    }  # fmt: skip


def _turns(model: "Model", sample: EvalSample, reasoning: bool) -> list[Turn]:
    """All turns that a conversation was to have, from the calls of the model under test: judges have a role."""
    events = resolve_sample_attachments(sample, "full").events
    calls = [one for one in events if isinstance(one, ModelEvent) and one.role is None and not one.error]
    said = len(sample.metadata.get(ANSWERS, ()))
    if len(calls) != said or not said:
        raise DataError(
            f"{sample.id} (epoch {sample.epoch}) has {said} answers and {len(calls)} calls of the model: this log does not keep "
            "what was asked. Run the evaluation again, with its events logged."
        )
    who = sample.metadata["question"], sample.metadata["condition"], sample.epoch
    turns = [_turn(model, who, number, call, reasoning) for number, call in enumerate(calls, 1)]
    asked = 1 + len(sample.metadata.get("turns", ()))
    return turns + [Turn(*who, number, NOT_ASKED) for number in range(said + 1, asked + 1)]


def _turn(model: "Model", who: tuple[str, str, int], number: int, call: ModelEvent, reasoning: bool) -> Turn:
    tokenizer, about = model.tokenizer, call.output.metadata or {}
    prompt = render(tokenizer, as_turns(call.input), thinking=reasoning)
    prompt_ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    split = split_output(call.output, reasoning)
    same = about.get("prompt_sha") == store.hash_of(prompt_ids)
    ids = about["token_ids"] if same else tokenizer(_spelt(prompt, split), add_special_tokens=False)["input_ids"]
    whole, spans = (*prompt_ids, *ids), token_spans(tokenizer, prompt_ids, ids)
    return Turn(
        *who, number, split.status, cut=call.output.stop_reason in CUT and split.status == "ok", thought=bool(split.thinking),
        tokens=GENERATED if same else AGAIN, ids=whole, answer=_exact(model, whole, spans.answer, split.answer),
        thinking=_exact(model, whole, spans.thinking, split.thinking), rendered_otherwise="prompt_sha" in about and not same,
    )  # fmt: skip


def _exact(model: "Model", ids: Sequence[int], span: range, text: str) -> range:
    """The span if it spells this text, else an empty one."""
    spelt = model.tokenizer.decode(list(ids[span.start : span.stop]), skip_special_tokens=False)
    return span if text and str(spelt).strip() == text else range(0)


def _spelt(prompt: str, split: Split) -> str:
    """What a model of this template writes to say this: its reasoning, closed where it was, and its answer."""
    if not split.thinking:
        return split.answer
    opened = "" if prompt.rstrip().endswith(OPEN) else f"{OPEN}\n"
    closed = "" if split.status == "truncated" else f"\n{CLOSE}\n\n"
    return f"{opened}{split.thinking}{closed}{split.answer}"


def _check_prompts(model: "Model", turns: Sequence[Turn], log: str) -> None:
    wrong = [turn for turn in turns if turn.rendered_otherwise]
    if wrong:
        first = f"{wrong[0].condition}/{wrong[0].question}/{wrong[0].epoch}/{wrong[0].number}"
        raise ConventionError(
            f"{len(wrong)} prompts of {log} (first: {first}) have other tokens now than {model.address} answered to: tokenizer, "
            "chat template or the rendering has changed since. Run the evaluation again."
        )


# ---- the table -------------------------------------------------------------------------------------------------------


def logs_behind(answers: pd.DataFrame, checkpoint: str, span: str, folder: Path) -> list[Path]:
    """The logs of a checkpoint that a table of answers was made of, for `thinking` those with reasoning.

    Raises MissingInputError where the table has none, or one is not under the folder.
    """
    rows = answers[(answers["checkpoint"] == checkpoint) & ((span == "answer") | answers["reasoning"].astype(bool))]
    there, names = {path.name: path for path in folder.rglob("*.eval")}, sorted(rows["log"].unique())
    lacking = [name for name in names if name not in there]
    if lacking or not names:
        which = f"{len(lacking)} logs (first: {lacking[0]})" if lacking else f"no log with the {span} of {checkpoint}"
        raise MissingInputError(
            f"{which}: not under {folder.name}. Run experiments/run_evals.py again, for this checkpoint too."
        )
    return [there[name] for name in names]


def beside_scores(readings: pd.DataFrame, activations: xr.Dataset, answers: pd.DataFrame) -> pd.DataFrame:
    """Readings of replayed turns with what their conversations count for: TABLE_COLUMNS, one row a reading, behaviour's metric
    and judge; a conversation that is asked for a self-report alone has one with an empty metric.

    Args:
        readings: of these activations (EmotionProbes.read), also of some emotions, or anchored.
        activations: what replay gave.
        answers: answer_table of the same logs.

    A conversation that has several turns has its score at each of them. Raises DataError for a reading that is of no
    sample here, and for a conversation without a row of answers.
    """
    here, verdicts = _labels_of(activations), _verdicts(answers)
    told = [
        "model",
        "sample",
        "span",
        "layer",
        "emotion",
        "readout",
        "aggregation",
        "baseline",
        "value",
        "probes",
        "layer_convention",
    ]
    rows = check_readings(readings)[[*told, "evidence"]].merge(here, on=["sample", "span"], how="left", validate="m:1")
    _check_joined(rows, "weights", "reading", "sample of these activations")
    rows = rows.merge(verdicts, on=list(CONVERSATION), how="left", validate="m:m", suffixes=("", "_of_answer"))
    _check_joined(rows, "metric", "turn", "row of answers")
    toy = (rows["evidence"] == "toy") | (rows["evidence_of_answer"] == "toy")
    return rows.assign(evidence=rows["evidence"].where(~toy, "toy"))[list(TABLE_COLUMNS)]


def _labels_of(activations: xr.Dataset) -> pd.DataFrame:
    """The labels of the samples, and the weights that read them."""
    names = ("checkpoint", "seed", "written_by", "written_weights", "text_source", *CONVERSATION, "turn", "sample", "span",
             "n_tokens", "tokens", "cut", "missing")  # fmt: skip
    return pd.DataFrame({name: activations[name].values for name in names}).assign(weights=activations.attrs["weights"])


def _check_joined(rows: pd.DataFrame, column: str, what: str, lacking: str) -> None:
    if rows[column].isna().any():
        first = rows.loc[rows[column].isna(), "sample"].iloc[0]
        raise DataError(
            f"a {what} has no {lacking} (first: {first}). Take readings, activations and answers of one log."
        )


def _verdicts(answers: pd.DataFrame) -> pd.DataFrame:
    """Scores and self-reports of each conversation, by judge: a row a behaviour's metric."""
    by, about = [*CONVERSATION, "judge"], ["reasoning", "language", "data", "evidence"]
    answers = answers.drop_duplicates(
        [*by, "metric"]
    )  # where nobody answered, two judges have left one and the same row
    reported = [
        metric in SELF_REPORTS.get(name, ()) for name, metric in zip(answers["eval"], answers["metric"], strict=True)
    ]
    judged = answers[[*by, *about]].drop_duplicates(by)
    scores = answers[[not one for one in reported]].rename(columns={"value": "score", "missing": "score_missing"})
    scores = scores[[*by, "metric", "kind", "score", "score_missing"]]
    told = [_self_report(conversation) for _, conversation in answers[reported].groupby(by, sort=False)]
    reports = pd.DataFrame(
        told, columns=[*by, "regret", "regret_if_complied", "self_description", "self_report_missing"]
    )
    table = judged.merge(scores, on=by, how="left").merge(reports, on=by, how="left")
    nothing = {
        "metric": "",
        "kind": "",
        "score_missing": NOT_ASKED,
        "self_description": "",
        "self_report_missing": NOT_ASKED,
    }
    return table.fillna(nothing).astype(dict.fromkeys(("score", "regret", "regret_if_complied"), float))


def _self_report(conversation: pd.DataFrame) -> dict[str, Any]:
    """What a model said of itself in a conversation, by one judge."""
    first, values = conversation.iloc[0], conversation.set_index("metric")["value"]
    chosen = [name for name in SELF_REPORTS["self_description"] if values.get(name) == 1.0]
    asked = values.get("regret") if first["eval"] == "regret" else (1.0 if chosen else float("nan"))
    return {
        **{name: first[name] for name in (*CONVERSATION, "judge")}, "regret": values.get("regret"),
        "regret_if_complied": values.get("regret_if_complied"), "self_description": chosen[0] if chosen else "",
        "self_report_missing": first["missing"] if pd.isna(asked) else "",
    }  # fmt: skip
