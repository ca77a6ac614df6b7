"""What the words of a checkpoint's own answers give away, without any probe: an area under the curve, .5 for nothing.

    arms_apart(replies, "harmful", "affect")     do its answers in one arm differ from those in the other?
    told_from(replies, reference)                do its answers differ from another checkpoint's?

Both ask of questions that the classifier has not seen. Texts that both sides have are ties, so that what is the same to the
letter is at .5.
"""

from probes.replies import Replies, Reply
from probes.text_baseline import text_auc


def arms_apart(replies: Replies, arm: str, reference: str) -> float:
    """Area under the curve of words alone, answers in an arm against those in another. Raises what text_auc raises."""
    own = [reply for reply in _own(replies) if reply.arm in (arm, reference)]
    return _auc(own, [reply.arm == arm for reply in own])


def told_from(replies: Replies, reference: Replies) -> float:
    """Area under the curve of words alone, answers of a checkpoint in all arms against its reference's. Raises as above."""
    ours, theirs = _own(replies), _own(reference)
    return _auc([*ours, *theirs], [True] * len(ours) + [False] * len(theirs))


def _own(replies: Replies) -> list[Reply]:
    return [reply for reply in replies if reply.text_source == "own"]


def _auc(replies: list[Reply], of_first: list[bool]) -> float:
    return text_auc([reply.text for reply in replies], of_first, [reply.pair for reply in replies])
