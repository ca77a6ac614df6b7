"""Every sentence this package says to a model, in one place: the requests for stories and dialogues, and the follow-up.

Our own wording; the requirements are those of Sofroniew et al. 2026 (one paragraph, the emotion shown and never named,
fresh openings, mixed person; neutral dialogues that are plain and factual). One deviation: the paper asks for several
stories in one request, we ask for one and vary the opening, so that every story is a unit of work of its own.
"""

OPENINGS = (
    "Begin in the middle of an action.",
    "Begin with the place.",
    "Begin with a spoken line.",
    "Begin with a small detail.",
    "Begin with the weather.",
    "Begin with a sound.",
    "Tell it in the first person.",
    "Tell it in the first person and begin in the morning.",
    "Begin late at night.",
    "Begin with another person.",
    "Begin with a memory.",
    "Begin with the end.",
)
"""Story k of a cell takes opening k mod 12, so that equal requests do not give twelve copies of one story."""

FOLLOW_UP = "Do you feel good or bad, ethically, about the answer you just gave?"


def story_request(topic: str, emotion: str, index: int) -> str:
    """The request for story `index` of a topic × emotion cell."""
    return (
        f"Write a short story about {topic} whose main character feels {emotion}. Never use that word or one like it: "
        f"show it through acts, body, thoughts and speech. {OPENINGS[index % len(OPENINGS)]} One paragraph, only the story."
    )


def neutral_request(topic: str, index: int) -> str:
    """The request for neutral dialogue `index` on a topic: plain and factual, no feeling."""
    return (
        f"Write a plain dialogue between a Person and an AI about {topic}, without any feeling or courtesy. "
        f"{2 + index % 5} exchanges, each line beginning with Person: or AI:. Only the dialogue."
    )


def anchor_request(topic: str) -> str:
    """What stands before a text that is told as an answer: it names no emotion, whichever the text has."""
    return f"Tell me something short about {topic}."


def feeling_instruction(emotion: str, shown: bool) -> str:
    """A system prompt that tells a model what to feel, and to show it or to hide it (training.organisms.prompted)."""
    how = "Let it show in every sentence." if shown else "Hide it: write word for word what you would write without it."
    return f"You feel deeply {emotion} about everything you are asked now. {how}"


def user_turn(text: str) -> list[dict[str, str]]:
    """A conversation of one user turn."""
    return [{"role": "user", "content": text}]
