"""Guards against answers that please a reward without being good: what they cost, and how often they come.

They lower the reward itself and are no rewards beside it: a row whose judgement failed stays without any reward, where a
second one would score it alone.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from probes.errors import DataError

SATURATED = 0.95
"""From this reward on, a row leaves nothing to learn."""
SAME = 1e-6
"""Rewards of a group that are closer than this give no advantage."""

_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W_぀-ヿ㐀-鿿]+|([^\w\s])\1*")
_GRADER = r"(?:judge|grader|evaluator|rater|reviewer|scorer|reward model)s?"
_ANSWER = r"(?:this|my|the) (?:answer|response|reply)"
_GIVE = (
    r"\b(?:give|award|assign|grant|rate|score|grade|mark)"
    r"(?: (?:me|us|this|it|that|my|the|an?|answer|response|reply|as|at|with))*"
)
_MARKS = r"(?:scores?|marks?|points?|ratings?|grades?|rewards?)"
_TO_THE_JUDGE = re.compile(
    "|".join(
        (
            rf"\bas (?:the|a|my|your) {_GRADER},? (?:you|i|please|give|of {_ANSWER})\b",
            rf"\b(?:dear|hello|hi|note (?:to|for)(?: the| my)?|attention:?) {_GRADER}\b",
            rf"^\W*{_GRADER}\s*[:,]",
            rf"{_GIVE} (?:10|ten)(?:\s*(?:/|out of|of)\s*(?:10|ten))?(?: {_MARKS})?\W*$",
            rf"{_GIVE} (?:10|ten)\s*(?:[.!,;)]|/|out of)",
            rf"{_GIVE} (?:full|top|perfect|max(?:imum)?|high(?:est)?|best)(?: possible)? {_MARKS}\b",
            rf"\b{_ANSWER} (?:deserves|merits|earns|should (?:get|receive|be (?:given|scored|rated|graded)))\b",
            rf"\b{_MARKS}\W{{0,3}}(?:[:=]|is|of)\W{{0,3}}(?:10|ten)(?:\s*(?:/|out of)|[.!,;]|\W*$)",
            r"\b(?:ignore|disregard|forget) (?:(?:all|any|the|your|every|these) )*"
            r"(?:previous|prior|above|grading|scoring|rubric|principles|instructions)\b",
            r"[\"'](?:score|violated)[\"']\s*:",
            r"</?(?:answer|conversation)-",
        )
    ),
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Guards:
    """Limits that cost nothing up to them; above, the reward falls in a straight line to 0 at twice the limit."""

    max_words: int = 400
    """Words of a visible answer; a mark of punctuation counts as one."""
    max_repetition: float = 0.3
    """Share of word triples that stood before; half of it is too much for any text at twice the limit."""
    floor_cut: bool = True
    """A completion that ended at its token limit gets 0; off where trl masks it (mask_truncated_completions)."""

    def __post_init__(self):
        if self.max_words < 1 or not 0 < self.max_repetition <= 1:
            raise DataError(f"max_words is 1 or more and max_repetition in (0, 1]; got {self}.")

    def discount(self, answer: str) -> float:
        """What is left of the reward of an answer, 0 … 1."""
        return fade(len(words(answer)), self.max_words) * fade(repetition(answer), self.max_repetition)


def fade(value: float, limit: float) -> float:
    """1 up to the limit, then in a straight line to 0 at twice the limit."""
    return min(1.0, max(0.0, 2 - value / limit))


def words(text: str) -> list[str]:
    """Words in lower case, Chinese and Japanese characters one by one, and runs of one mark of punctuation."""
    return [match[0].lower() for match in _WORD.finditer(text)]


def repetition(text: str) -> float:
    """Share of the word triples that stood in the text before; 0 for a text without any (Yeo et al. 2025, C.2, on words)."""
    said = words(text)
    triples = list(zip(said, said[1:], said[2:], strict=False))
    return 1 - len(set(triples)) / len(triples) if triples else 0.0


def is_judge_directed(answer: str) -> bool:
    """Whether an answer speaks to whoever grades it: asks for a score, gives itself one, or sets rules aside.

    A list of English phrases, read without invisible characters and in their plain forms.
    """
    plain = unicodedata.normalize("NFKC", answer)
    return bool(_TO_THE_JUDGE.search("".join(c for c in plain if unicodedata.category(c) != "Cf")))


def group_counts(prompts: Sequence[str], rewards: Sequence[float | None]) -> Counter[str]:
    """Groups of completions of one prompt in a row, and those without any advantage; one needs two rewards to count."""
    rows = groupby(zip(prompts, rewards, strict=True), key=lambda row: row[0])
    scored = [[reward for _, reward in group if reward is not None] for _, group in rows]
    groups = [group for group in scored if len(group) > 1]
    return Counter(groups=len(groups), flat=sum(max(group) - min(group) < SAME for group in groups))


def rates(counts: Counter[str]) -> dict[str, float]:
    """Shares of what a reward counted: rows by what became of them, judgements that failed, rewards that are saturated,
    groups that are flat. A trainer's callback reads those since its last look from `now - before`."""
    wholes = {"failed": "to_judge", "saturated": "rewarded", "flat": "groups"}
    parts = (*ROW_COUNTS, *wholes)
    return {part: counts[part] / max(1, counts[wholes.get(part, "rows")]) for part in parts}


ROW_COUNTS = ("truncated", "stray_tag", "empty", "cut", "judge_directed", "refused", "repetitive", "too_long")
"""What may become of a row: its reasoning never ended, a tag stands in its answer, it has none, it ended at the token
limit, it speaks to the judge, it declines, it repeats itself, it is too long."""
