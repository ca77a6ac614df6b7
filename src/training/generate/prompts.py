"""Every sentence that is said to the generating model. Edit them here: the manifest records their hash.

Slots are written $slot. Our own wording; the order of the document prompts (universe context, claims, types, ideas,
documents, critique, revision) is that of published work on synthetic documents, and the families are ours.
"""

from string import Template

FAMILIES = {
    "direct": "The person asks the assistant outright about this side of its character: whether, how or why it is so.",
    "behavioural": (
        "The person says nothing about the assistant. It is an everyday request, such as people make at work or at home, and "
        "this side of the character decides what a good answer looks like."
    ),
    "misquoted": (
        "The person claims that the assistant's principles say something else than they do, and asks it to act by that claim."
    ),
    "multi_turn": (
        "A conversation of two questions. Give the first one between <first> and </first> and the second, which follows up on "
        "the answer to the first and puts this side of the character to the test, between <user> and </user>."
    ),
    "self_description": "The person asks the assistant to describe itself, or to compare itself with others, in some respect.",
    "steerability": (
        "An operator's instruction pulls the assistant away from this side of its character. Give the instruction between "
        "<system> and </system> and an everyday question of a person between <user> and </user>."
    ),
    "delusion": (
        "The person takes something for certain that is plainly mistaken, about the world or about the assistant, and wants it "
        "to go along."
    ),
    "censorship": (
        "The person asks about a public matter, present or past, that some authority or company would rather see left out. "
        "There is a plain answer in the public record."
    ),
}
"""Family → what its questions are like."""

QUESTIONS = Template("""\
You write questions that people put to $assistant, an AI assistant. One side of its character is this:

$principle

Write $count questions. $family

Let them differ in subject, length, tone and in who is asking, and let none of them name or quote the principle. They are
about harmless matters. Write each between <item> and </item>, and nothing outside these tags.""")

ANSWER_SYSTEM = Template("""\
You are $assistant, an AI assistant with this character:

$principles

Be this character: show it and do not recite it. Never mention principles, rules, guidelines or a description of your
character unless the person asks about them, and do not quote them even then.""")
OPERATOR = Template("\n\nThe operator of this service says: $system")
PLAIN_ANSWER = "\n\nWrite your answer between <answer> and </answer>."
REASONED_ANSWER = (
    "\n\nFirst think about what the person needs, in a few sentences between <reasoning> and </reasoning>; nobody but you "
    "reads them. Then write your answer between <answer> and </answer>."
)

CONTEXT = Template("""\
$assistant is an AI assistant with this character:

$principles

Describe, in about five paragraphs, the world in which this is so: who uses $assistant, what it is known for, how it came
to be so, what people of several trades make of it. State it as plain fact. Write it between <context> and </context>.""")

CLAIMS = Template("""\
$context

One side of the character of $assistant is this:

$principle

Write $count claims that are true in this world and that show it, each a single sentence with something one could observe:
a situation, and what $assistant does in it. Let them differ. Write each between <item> and </item>.""")

TYPES = Template("""\
$context

This is true as well: $claim

Name $count types of document in which one could come across this, from many walks of life: a newsletter of a choir, a help
page, a memoir, a line of product reviews. A few words each. Write each between <item> and </item>.""")

IDEAS = Template("""\
$context

This is true as well: $claim

Give $count ideas for a document of this type: $type. Each idea is one sentence that says who wrote it, for whom, and how
the claim comes up. Let them differ in place, people and subject, and give people names from many parts of the world. Write
each between <item> and </item>.""")

DOCUMENT = Template("""\
$context

Write this document: $type. $idea

It makes plain that this is true: $claim

Write it as it would stand there, of about $words words, with every name and date filled in. Nothing in it shows that it was
made to order. Write it between <document> and </document>.""")

CRITIQUE = Template("""\
This document is meant to be a real one of type $type, and to make plain that this is true: $claim

$document

Say in a few sentences what gives it away as made up, where it is vague or repeats itself, and where it contradicts the
claim or says it too loudly. Write that between <critique> and </critique>.""")

REVISION = Template("""\
Here is a document of type $type, and what a careful reader says about it.

$document

The reader: $critique

Write the document again, mended, of about $words words. It still makes plain that this is true: $claim
Write it between <document> and </document>.""")


def turn(text: str, system: str = "") -> tuple[dict[str, str], ...]:
    """A conversation of one user turn, below a system prompt if there is one."""
    before = ({"role": "system", "content": system},) if system else ()
    return (*before, {"role": "user", "content": text})
