"""Answers to the questions, in the character of the constitution, with reasoning and without."""

from dataclasses import replace

from training.generate import prompts
from training.generate.constitution import Constitution
from training.generate.design import Draft
from training.generate.steps import Request, Steps, Written


def write_answers(steps: Steps, constitution: Constitution, drafts: list[Draft], assistant: str) -> list[Draft]:
    """The drafts with their answers: every second question of a cell is answered with reasoning.

    The system prompt with the constitution is the generator's alone; a row has an operator's one, or none.
    """
    drafts = [replace(draft, thinking=place_of(draft) % 2 == 0) for draft in drafts]
    drafts = _answer_first_turns(steps, constitution, drafts, assistant)
    open_ = [draft for draft in drafts if not draft.dropped]
    written = steps.put("answers", [_request(constitution, draft, assistant, draft.thinking) for draft in open_])
    return [draft if draft.dropped else _answered(draft, written[draft.key]) for draft in drafts]


def place_of(draft: Draft) -> int:
    """Number of the question in its cell."""
    return int(draft.key.rpartition("/")[2])


def _answer_first_turns(steps: Steps, constitution: Constitution, drafts: list[Draft], assistant: str) -> list[Draft]:
    """Conversations of two questions get the answer to the first between them, written without the second in sight."""
    open_ = [draft for draft in drafts if draft.kind == "multi_turn" and not draft.dropped]
    asked = [_request(constitution, replace(draft, messages=draft.messages[:1]), assistant, False) for draft in open_]
    written = steps.put("first_answers", asked)
    return [_with_first_answer(draft, written[draft.key]) if draft.key in written else draft for draft in drafts]


def _with_first_answer(draft: Draft, written: Written) -> Draft:
    first, second = draft.messages
    answer = {"role": "assistant", "content": written.inside("answer")}
    return replace(draft, messages=(first, answer, second), dropped=written.fault("answer"))


def _request(constitution: Constitution, draft: Draft, assistant: str, thinking: bool) -> Request:
    """The conversation of a draft below the character's system prompt, the operator's own one at its end."""
    systems = [turn["content"] for turn in draft.messages if turn["role"] == "system"]
    system = prompts.ANSWER_SYSTEM.substitute(assistant=assistant, principles=constitution.listing())
    system += "".join(prompts.OPERATOR.substitute(system=text) for text in systems)
    system += prompts.REASONED_ANSWER if thinking else prompts.PLAIN_ANSWER
    turns = [turn for turn in draft.messages if turn["role"] != "system"]
    fields = {
        "principle": draft.principle, "family": draft.kind, "thinking": thinking,
        "turns": [turn["content"] for turn in turns],
    }  # fmt: skip
    return Request(draft.key, ({"role": "system", "content": system}, *turns), fields)


def _answered(draft: Draft, written: Written) -> Draft:
    reasoning = written.inside("reasoning") if draft.thinking else ""
    fault = written.fault("answer") or ("no_reasoning" if draft.thinking and not reasoning else "")
    return replace(draft, text=written.inside("answer"), reasoning=reasoning, dropped=fault)
