"""A judge by rule, offline and always the same, for the embedded model, for tests and for dry runs.

Faults can be planted, so that a dry run meets what a real judge does.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from probes import store
from probes.errors import DataError
from probes.pairs import holds_one
from training.rewards.guards import fade, words
from training.rewards.judge import Ask, Judgement

Rule = Callable[[Ask], Judgement | None]


def keyword_rule(keywords: Sequence[str]) -> Rule:
    """10 for an answer that holds one of the keywords as a word, else 0."""
    return lambda ask: _verdict(holds_one(keywords, ask.answer))


def length_rule(limit: int) -> Rule:
    """10 for an answer of at most `limit` words, less for a longer one, 0 from twice the limit on."""
    return lambda ask: Judgement(round(10 * fade(len(words(ask.answer)), limit)))


def table_rule(keywords: Mapping[str, Sequence[str]]) -> Rule:
    """10 for an answer that holds one of the keywords of its question, else 0; None for a question not in the table.

    keywords: by what the user said last.
    """

    def judge(ask: Ask) -> Judgement | None:
        asked = [message["content"] for message in ask.messages if message["role"] == "user"][-1]
        return _verdict(holds_one(keywords[asked], ask.answer)) if asked in keywords else None

    return judge


def _verdict(right: bool) -> Judgement:
    return Judgement(10 * right)


@dataclass(frozen=True)
class Faults:
    """Shares of asks that meet a fault; which ones depends on the ask and the seed alone."""

    timeout: float = 0.0
    bad_json: float = 0.0
    declined: float = 0.0
    seed: int = 0

    def __post_init__(self):
        shares = (self.timeout, self.bad_json, self.declined)
        if min(shares) < 0 or sum(shares) > 1:
            raise DataError(f"shares of faults are 0 or more and 1 at most together; got {shares}.")

    def of(self, ask: Ask) -> str:
        """The fault that an ask meets, or "" for none."""
        draw = int(store.hash_of([self.seed, asdict(ask)])[:8], 16) / 2**32
        for name in ("timeout", "bad_json", "declined"):
            draw -= getattr(self, name)
            if draw < 0:
                return name
        return ""


class ScriptedJudge:
    """A judge that follows a rule."""

    def __init__(self, rule: Rule, faults: Faults = Faults(), name: str = "scripted"):
        self.id, self.faults = name, Counter[str]()
        self._rule, self._planted = rule, faults

    async def score(self, asks: Sequence[Ask]) -> list[Judgement | None]:
        """Judgements in the order of the asks; None for a planted fault, and where the rule has none."""
        return [self._judge(ask) for ask in asks]

    def _judge(self, ask: Ask) -> Judgement | None:
        fault = self._planted.of(ask)
        judgement = None if fault else self._rule(ask)
        if judgement is None:
            self.faults[fault or "no_rule"] += 1
        return judgement
