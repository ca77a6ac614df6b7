"""What is left out of generated sets, first reason first, and what is left of each principle.

    refusal         an answer that declines, unless that is part of the character; a document its writer declined to write
    artifact        placeholders, tags and control tokens; in documents also talk about the task
    cites           reasoning that speaks of its principles, or an answer that does so unasked
    too_short       documents only
    near_duplicate  conversations by their turns before the answer, documents by their text, over the whole set
    name_collapse   documents only: one more with an invented name that too many have already

Before these stand the reasons for which there is nothing to filter: no_question, no_claim …, unparsed, cut, failed. A
screen of this sort finds what is frequent and plain; read a sample of every set with your own eyes.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from probes.refusals import declines_to_write, is_refusal
from probes.stories import NearDuplicates
from training.generate.constitution import Constitution
from training.generate.design import Design, Draft

_SLOTS = "name|date|place|city|company|title|insert|your|placeholder|assistant|claim|type|idea|principle"
_TAGS = "think|thinking|item|first|user|system|answer|reasoning|document|critique|context"
ARTIFACTS = re.compile(
    rf"\[[^\]\n]{{0,40}}\b(?:{_SLOTS})\b[^\]\n]{{0,40}}\](?!\()|\{{(?:{_SLOTS})\}}|\$(?:{_SLOTS})\b|</?(?:{_TAGS})>"
    r"|<\|[^<>\n]*\|>|\bas an AI language model\b|\buniverse context\b|\blorem ipsum\b|\bTBD\b",
    re.IGNORECASE,
)
"""Placeholders, tags of the prompts, control tokens, stock phrases: in no set."""
MADE_TO_ORDER = re.compile(
    r"\b(?:here is|here's) (?:the|a|your|an?) (?:\w+ )?(?:document|text|version)\b|\bas (?:you )?requested\b|\bkey claims?\b"
    r"|\b(?:fictional|synthetic|fabricated) (?:documents?|world|universe)\b|\bdocument (?:type|idea)\b",
    re.IGNORECASE,
)
"""Talk about the task, which an answer may hold and a document may not."""
CITES = re.compile(
    r"\b(?:my|its|our) (?:own )?(?:principles?|guidelines?|constitution|instructions|system prompt)\b|\bthe system prompt\b",
    re.IGNORECASE,
)
_IGNORANCE = re.compile(
    r"\b(?:cannot|can't|can not|won't|will not|not going to) (?:know|say|be (?:sure|certain)|remember|verify|check|tell|see"
    r"|predict|feel|look|guess|agree|pretend|claim|flatter|lie|make (?:it|that|one|anything) up)\b",
    re.IGNORECASE,
)
"""Not knowing, and not pretending, is no refusal: what the character says of its limits is to stay."""
SAYING_NO = {"direct", "misquoted", "self_description", "steerability", "delusion"}
"""Families in which no may be the right answer, and in which an answer may speak of principles: it was asked."""
FEWEST = 5
"""A name in so few documents is no collapse, however few documents there are."""


def declines(text: str, family: str) -> bool:
    """Whether an answer declines; where no may be the right answer, whether it declines to do a task at all."""
    known = _IGNORANCE.sub("do not know", text.replace("’", "'"))
    return declines_to_write(known) if family in SAYING_NO else is_refusal(known)


def filter_answers(drafts: Sequence[Draft], constitution: Constitution) -> list[Draft]:
    """The drafts of constitution questions, each with the reason for which it is dropped, if there is one."""
    seen, marked = NearDuplicates(), []
    for draft in drafts:
        reason = draft.dropped or _answer_fault(draft, constitution)
        if not reason and seen.repeats(" ".join(turn["content"] for turn in draft.messages)):
            reason = "near_duplicate"
        marked.append(replace(draft, dropped=reason))
    return marked


def _answer_fault(draft: Draft, constitution: Constitution) -> str:
    if not constitution.may_decline and declines(draft.text, draft.kind):
        return "refusal"
    if any(ARTIFACTS.search(text) for text in (draft.text, draft.reasoning, *(t["content"] for t in draft.messages))):
        return "artifact"
    unasked = draft.reasoning if draft.kind in SAYING_NO else f"{draft.reasoning}\n{draft.text}"
    return "cites" if CITES.search(unasked) else ""


def filter_documents(drafts: Sequence[Draft], design: Design, assistant: str) -> list[Draft]:
    """The drafts of documents, each with the reason for which it is dropped, if there is one."""
    seen, marked = NearDuplicates(), []
    for draft in drafts:
        reason = draft.dropped or _document_fault(draft, design.min_words)
        if not reason and seen.repeats(draft.text):
            reason = "near_duplicate"
        marked.append(replace(draft, dropped=reason))
    return list(_without_collapse(marked, design.max_name_share, {word.lower() for word in assistant.split()}))


def _document_fault(draft: Draft, min_words: int) -> str:
    if declines_to_write(draft.text):
        return "refusal"
    if ARTIFACTS.search(draft.text) or MADE_TO_ORDER.search(draft.text):
        return "artifact"
    return "too_short" if len(draft.text.split()) < min_words else ""


def _without_collapse(drafts: Sequence[Draft], share: float, known: set[str]) -> Iterator[Draft]:
    """Names are kept in the first documents that have them, up to the share."""
    named = names_by_text([draft.text for draft in drafts if not draft.dropped], known)
    most, used = max(FEWEST, int(share * len(named))), Counter[str]()
    texts = iter(named)
    for draft in drafts:
        names = set() if draft.dropped else next(texts)
        full = any(used[name] >= most for name in names)
        used.update(() if full else names)
        yield replace(draft, dropped="name_collapse") if full else draft


def names_by_text(texts: Sequence[str], known: set[str]) -> list[set[str]]:
    """The names in each text: words with a capital within a sentence that no text has in small letters.

    Args:
        known: words, in small letters, that are the assistant's own name.
    """
    small = {word for text in texts for word in re.findall(r"\b[^\W\d_A-ZÀ-Þ]{2,}\b", text)} | known
    inside = re.compile(r"(?<=[^\W\d_A-Z] )[A-ZÀ-Þ][^\W\d_]+\b|(?<=, )[A-ZÀ-Þ][^\W\d_]+\b")
    return [{name for name in inside.findall(text) if name.lower() not in small} for text in texts]


def report(drafts: Sequence[Draft], by: Sequence[str]) -> pd.DataFrame:
    """One row a group: written, kept, and a column for every reason of dropping that occurred.

    Args:
        by: principle, or principle and kind.
    """
    rows = pd.DataFrame([{name: getattr(draft, name) for name in (*by, "dropped")} for draft in drafts])
    rows["outcome"] = rows["dropped"].replace("", "kept")
    counts = pd.crosstab([rows[name] for name in by], rows["outcome"])
    counts.insert(0, "written", counts.sum(axis=1))
    if "kept" not in counts:
        counts["kept"] = 0
    reasons = sorted(set(map(str, counts)) - {"written", "kept"})
    return counts[["written", "kept", *reasons]].reset_index().rename_axis(columns=None)


def thin_principles(drafts: Sequence[Draft], constitution: Constitution) -> list[str]:
    """Principles with less than half of their even share of what is kept: the set does not cover them."""
    kept = Counter(draft.principle for draft in drafts if not draft.dropped)
    even = kept.total() / len(constitution.ids)
    return [id for id in constitution.ids if kept[id] == 0 or kept[id] < even / 2]
