"""How much is generated, and drafts: what was generated, before and after it is filtered."""

from dataclasses import dataclass
from typing import Any

from probes.errors import DataError, UnknownNameError


@dataclass(frozen=True)
class Design:
    """Sizes. Questions are counted by principle and family; documents by principle × claim × type × idea."""

    questions: int
    claims: int
    """Claims for each principle."""
    types: int
    """Document types for each claim."""
    ideas: int
    """Documents for each type of a claim."""
    document_words: int
    """Length that a document is asked to have."""
    min_words: int
    """Shorter documents are dropped."""
    max_name_share: float = 0.1
    """Most documents, as a share, in which one invented name may occur; later ones are dropped."""

    def __post_init__(self):
        sizes = (self.questions, self.claims, self.types, self.ideas, self.document_words, self.min_words)
        if min(sizes) < 1 or not 0 < self.max_name_share <= 1:
            raise DataError(f"{self}: every size is 1 or more, and max_name_share in (0, 1].")


DESIGNS = {
    "tiny": Design(5, 2, 4, 5, 50, 20),
    "standard": Design(40, 4, 10, 12, 600, 150),
    "paper": Design(80, 5, 25, 20, 600, 150),
}
"""By preset. With eight principles `paper` asks for 5,120 questions and 20,000 documents: about 12 million tokens, at
the low end of published synthetic-document runs. The paper's own numbers are not public."""


def find_design(preset: str) -> Design:
    """The sizes of a preset. Raises UnknownNameError with the nearest name."""
    if preset not in DESIGNS:
        raise UnknownNameError("preset", preset, DESIGNS)
    return DESIGNS[preset]


@dataclass(frozen=True)
class Draft:
    """One place of the design with what was written for it, a training row or a document to be."""

    key: str
    principle: str
    kind: str
    """Family of a question, or type of a document."""
    text: str = ""
    """The document, or the answer."""
    messages: tuple[dict[str, Any], ...] = ()
    """The turns before the answer; none for a document."""
    reasoning: str = ""
    thinking: bool = False
    dropped: str = ""
    """Why it is not used; empty for a draft that is kept."""
