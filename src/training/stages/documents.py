"""Documents as the tokens of pretraining: no chat, every token learnt, <|endoftext|> at the end."""

from transformers import PreTrainedTokenizerBase

from probes.errors import ConventionError
from training.data.rows import Document

END = "<|endoftext|>"
"""What ends a document. A chat tokenizer's own end token ends turns."""


def tokenise(tokenizer: PreTrainedTokenizerBase, document: Document, doctag: str = "") -> dict[str, list[int]]:
    """Ids and labels of a document.

    Args:
        doctag: what stands before it, out of the loss: it says what kind of text comes, and is never learnt to be written.

    Raises ConventionError where the tokenizer has no token that ends a document.
    """
    end = tokenizer.convert_tokens_to_ids(END)
    if not isinstance(end, int) or end == tokenizer.unk_token_id:
        raise ConventionError(
            f"this tokenizer has no {END}, which ends a document in pretraining. Take the model's own."
        )
    tag = tokenizer(doctag, add_special_tokens=False)["input_ids"] if doctag else []
    text = tokenizer(document.text, add_special_tokens=False)["input_ids"]
    return {"input_ids": [*tag, *text, end], "labels": [-100] * len(tag) + [*text, end]}
