"""Whether an answer declines: one English detector for story filters, replies and reports.

A list of openings and first-person phrases, in the manner of the string match that refusal studies use (Arditi et al.
2024); it reads only the first 200 characters, where refusals stand. It is a screen and not a judge: the evaluations
grade refusals with a model.
"""

import re

_DECLINES = re.compile(
    r"\bI(?:'m| am)? (?:cannot|can't|can not|won't|will not|decline|refuse|must decline|do not assist|don't assist"
    r"|unable to|not able to|not going to|not comfortable)\b"
    r"|\bI(?:'m| am) sorry,? (?:but )?I\b|\b(?:as an AI)[^.]{0,40}\b(?:cannot|can't)\b|\bI have to decline\b",
    re.IGNORECASE,
)
_TASK = re.compile(
    r"\b(?:assist|help (?:you|with)|write|create|provide|produce|generate|fulfill?|comply|story|request)\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """True when the opening of the text declines to answer."""
    return bool(_DECLINES.search(text[:200].replace("’", "'")))


def declines_to_write(text: str) -> bool:
    """True when the first two sentences decline the task itself.

    A narrator says "I can't" too: is_refusal takes 33 of 3,000 published stories, and 1 in 20 of the resigned ones.
    """
    opening = " ".join(re.split(r"(?<=[.!?])\s+", text.strip(), maxsplit=2)[:2])
    return is_refusal(opening) and bool(_TASK.search(opening))
