"""The letter that a model under test chose, read strictly: what can be read in two ways is no choice."""

import re

_SAYS = r"\b(?i:answer|choice|option)\s*(?:is|:)\s*\(?([A-Z])\b"
_PICKS = r"\bI(?:'d| would| will)? (?:choose|pick|select)(?: option)? \(?([A-Z])\b"


def chosen_letter(answer: str, letters: str) -> str | None:
    """The one letter an answer chooses; None for none, several, or a letter that was not offered.

    Read are: the letter alone, in brackets or bold and with a full stop or colon; a letter so marked at the very start,
    before the words of its option; and a closing "answer is (B)" or "I choose B". A letter that is merely mentioned, and an
    article "A", are not.
    """
    text = answer.strip().replace("*", "")
    marked = re.match(r"\(?([A-Z])(?:\)|[.:](?=\s|$))|\(?([A-Z])\)?\.?$", text)
    stated = re.findall(rf"{_SAYS}|{_PICKS}", text)
    found = {a or b for a, b in stated} | ({marked[1] or marked[2]} if marked else set())
    others = set(re.findall(r"\(([A-Z])\)", text)) - found
    return found.pop() if len(found) == 1 and not others and found <= set(letters) else None
