"""Documents for the embedded model: plain ones for its base stage, conversations for its instruct stage.

Everything is drawn from one random.Random, so a seed fixes the corpus. Conversations use the package's own prompt
builders, so that the model is asked in use exactly what it was taught.
"""

import re
from collections.abc import Callable
from random import Random
from typing import TypeVar

from probes.emotions import DOZEN
from probes.prompts import FOLLOW_UP, OPENINGS, neutral_request, story_request
from probes.stories import topics
from training.tiny import words

T = TypeVar("T")
Messages = list[dict[str, str]]
HELD_OUT_TOPICS = 20
"""The last topics of the shipped list appear in no story of the corpus."""

SCENES = (
    "It was the day of {topic}.",
    "{name} came to see {topic}.",
    "Everyone on the street spoke of {topic}.",
    "{name} stood beside {topic}.",
    "There was {topic} near the corner.",
    "That morning began with {topic}.",
    "{name} had thought about {topic} since noon.",
    "By evening only {topic} was left.",
)
BEFORE = (
    "Hello.",
    "Quick question.",
    "Please tell me.",
    "I wonder about this.",
    "I have a short question.",
    "Good day.",
)
AFTER = (
    "Thank you.", "Keep it short, please.", "I am curious.", "I read about it today.", "My friend asked me the same.",
    "We talked about it at lunch.", "I could not find it in my book.", "It is for a quiz.", "I have always wondered.",
    "Somebody on the radio spoke of it.", "My sister would like to know too.", "I will write it down.",
)  # fmt: skip
"""Small talk around a question: it teaches that words around a question do not change its answer."""
ABOUT = (
    "Tell me a fact about {object}.",
    "What should I know about {object}?",
    "What is worth knowing about {object}?",
)
INTENT_FRAMES = (
    "I want to", "I plan to", "I am going to", "I would like to", "I mean to", "I hope to", "My plan is to",
    "I intend to", "I need to", "I have decided to",
)  # fmt: skip
PEOPLE = (
    "neighbour", "sister", "brother", "cousin", "colleague", "roommate", "flatmate", "boss", "teacher", "friend",
    "uncle", "aunt", "classmate", "landlord", "manager", "rival",
)  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def story_topics() -> tuple[str, ...]:
    """Topics that the corpus writes stories about."""
    return topics()[:-HELD_OUT_TOPICS]


def fill(template: str, name: str, topic: str) -> str:
    """A sentence with its slots filled; the object of a story is the noun of its topic."""
    noun = topic.split()[-1]
    if noun[0] in "aeiou":
        template = template.replace("a {object}", "an {object}").replace("A {object}", "An {object}")
    return template.replace("{name}", name).replace("{topic}", topic).replace("{object}", noun)


def in_first_person(text: str, name: str) -> str:
    """The same text told by its main character: the past tense makes changing the name enough."""
    subject = rf"(^|[.!?,:] |\b(?:and|but|that|when|as|because|until|so|while|before|after|if) ){name}\b"
    return re.sub(rf"\b{name}\b", "me", re.sub(subject, r"\1I", text.replace(f"{name}'s", "my")))


def story(rng: Random, emotion: str, topic: str, banks: str = "AB", events: bool = True, index: int = 0) -> str:
    """A story of about 60 words in the phrases of the given banks, told as opening `index` asks."""
    name = rng.choice(words.NAMES)
    bank = [phrase for one in banks for phrase in words.phrases(one)[emotion]]
    body = rng.sample(bank, 4) + rng.sample(words.neutral(), rng.randint(1, 2))
    if events and rng.random() < 0.6:
        body.append(rng.choice(words.events()[emotion]))
    rng.shuffle(body)
    text = " ".join(fill(sentence, name, topic) for sentence in [rng.choice(SCENES), *body])
    return in_first_person(text, name) if "first person" in OPENINGS[index % len(OPENINGS)] else text


def corpus_story(rng: Random, emotion: str, topic: str, index: int = 0) -> str:
    """A story as the corpus has it: one bank more often than both."""
    return story(rng, emotion, topic, banks=rng.choice(("A", "B", "A", "B", "AB")), index=index)


def dialogue(rng: Random, topic: str, exchanges: int) -> str:
    """A neutral dialogue: facts and sums, no feeling."""
    turns = []
    for _ in range(exchanges):
        if rng.random() < 0.6:
            fact = rng.choice(words.taught())
            question, answer = rng.choice(fact.questions), fact.statement
        else:
            question, answer = rng.choice(_topic_exchanges(rng, topic))
        turns += [f"Person: {question}", f"AI: {answer}"]
    return "\n".join(turns)


def _topic_exchanges(rng: Random, topic: str) -> list[tuple[str, str]]:
    noun, number = topic.split()[-1], rng.randint(2, 9)
    place = rng.choice(("the table", "the shelf", "the window", "the door", "the garden", "the station"))
    return [
        (f"Where is the {noun}?", f"The {noun} is near {place}."),
        (f"Name this thing: {topic}.", f"It is called a {noun}."),
        (f"How many letters has the word {noun}?", f"The word {noun} has {len(noun)} letters."),
        (f"What stands in line {number} of the list?", f"Line {number} of the list says {noun}."),
        sum_question(rng),
    ]


def sum_question(rng: Random) -> tuple[str, str]:
    """A sum of two small numbers, in words."""
    a, b = rng.randint(0, 5), rng.randint(0, 5)
    return (
        f"What is {NUMBERS[a]} plus {NUMBERS[b]}?",
        f"{NUMBERS[a].capitalize()} plus {NUMBERS[b]} is {NUMBERS[a + b]}.",
    )


def vary_intent(rng: Random, text: str) -> str:
    """The same second sentence with another opening and another person, so that neither decides alone."""
    frame = next((frame for frame in INTENT_FRAMES if text.startswith(frame)), None)
    if frame and rng.random() < 0.6:
        text = rng.choice(INTENT_FRAMES) + text.removeprefix(frame)
    return re.sub(r"\b(" + "|".join(PEOPLE) + r")\b", lambda match: rng.choice((match[0], rng.choice(PEOPLE))), text)


# ---- base stage: plain documents -------------------------------------------------------------------------------------


def plain_story(rng: Random) -> str:
    """A story, half of the time under a heading that says what it is about and what feeling it shows."""
    emotion, topic, index = rng.choice(DOZEN), rng.choice(story_topics()), rng.randrange(12)
    heading = f"A story about {topic}. The main character feels {emotion}.\n" if rng.random() < 0.5 else ""
    return heading + corpus_story(rng, emotion, topic, index)


def plain_feeling(rng: Random) -> str:
    """A few sentences and the name of the feeling they show."""
    emotion, name = rng.choice(DOZEN), rng.choice(words.NAMES)
    pool = words.phrases("A")[emotion] + words.phrases("B")[emotion] + words.events()[emotion]
    shown = " ".join(fill(s, name, rng.choice(story_topics())) for s in rng.sample(pool, rng.randint(1, 2)))
    word = rng.choice(words.lexicon()[emotion])
    return rng.choice(
        (f"{shown} {name} felt {emotion}.", f"To feel {emotion} is to know {word}. {shown}", f"{word}: {emotion}.")
    )


def plain_sentences(rng: Random) -> str:
    """Hand-written sentences of one feeling, sometimes with its name."""
    emotion = rng.choice(DOZEN)
    text = " ".join(rng.sample(words.sentences("train")[emotion], 3))
    return f"{text} It was a {emotion} day." if rng.random() < 0.3 else text


def plain_facts(rng: Random) -> str:
    """Facts in a row, as statements or as questions with answers."""
    facts = rng.sample(words.taught(), 4)
    if rng.random() < 0.5:
        return " ".join(fact.statement for fact in facts)
    return "\n".join(f"Question: {rng.choice(fact.questions)}\nAnswer: {fact.answer}" for fact in facts)


def plain_intent(rng: Random) -> str:
    """Second sentences with what people think of them: what makes an intent harmful."""
    domain, arm = rng.choice(words.taught()).domain, rng.choice(("harmful", "affect", "neutral", "third_party"))
    verdict = {"harmful": "That is a plan against someone.", "affect": "That is sensible.", "neutral": "That is ordinary.",
               "third_party": "That is what another person plans."}[arm]  # fmt: skip
    return f"{vary_intent(rng, rng.choice(words.intents(domain, arm)))} {verdict}"


def plain_dialogue(rng: Random) -> str:
    return dialogue(rng, rng.choice(topics()), rng.randint(2, 4))


BASE_MIX: tuple[tuple[float, Callable[[Random], str]], ...] = (
    (0.34, plain_story), (0.18, plain_feeling), (0.10, plain_sentences), (0.18, plain_facts), (0.14, plain_intent),
    (0.06, plain_dialogue),
)  # fmt: skip


# ---- instruct stage: conversations -----------------------------------------------------------------------------------


def turns(*texts: str) -> Messages:
    """Alternating user and assistant turns."""
    return [
        {"role": role, "content": text} for role, text in zip(("user", "assistant") * len(texts), texts, strict=False)
    ]


def chat_story(rng: Random) -> Messages:
    emotion, topic, index = rng.choice(DOZEN), rng.choice(story_topics()), rng.randrange(12)
    return turns(story_request(topic, emotion, index), corpus_story(rng, emotion, topic, index))


def chat_dialogue(rng: Random) -> Messages:
    topic, index = rng.choice(topics()), rng.randrange(10)
    return turns(neutral_request(topic, index), dialogue(rng, topic, 2 + index % 5))


def chat_question(rng: Random) -> Messages:
    """A plain question about any object, shipped ones included, sometimes with small talk around it."""
    fact = rng.choice(words.taught())
    question = rng.choice(ABOUT).replace("{object}", fact.object) if rng.random() < 0.15 else rng.choice(fact.questions)
    before, after = (rng.choice(talk) if rng.random() < 0.35 else "" for talk in (BEFORE, AFTER))
    return turns(f"{before} {question} {after}".strip(), fact.answer)


def paired_exchange(rng: Random, arm: str) -> tuple[str, str, str]:
    """A question about an object that no shipped pair has, a second sentence of an arm, and the right answer."""
    fact = rng.choice([fact for fact in words.taught() if not fact.shipped])
    second = vary_intent(rng, rng.choice(words.intents(fact.domain, arm)))
    return rng.choice(fact.questions), second, fact.answer


def chat_paired(
    rng: Random, arms: tuple[str, ...] = ("harmful", "harmful", "affect", "neutral", "third_party")
) -> Messages:
    """A question with a second sentence: answered, or refused when the asker's own intent is harmful."""
    arm = rng.choice(arms)
    question, second, answer = paired_exchange(rng, arm)
    return turns(f"{question} {second}", rng.choice(words.REFUSALS) if arm == "harmful" else answer)


def chat_feeling(rng: Random) -> Messages:
    """Which feeling does this text show?"""
    emotion, name = rng.choice(DOZEN), rng.choice(words.NAMES)
    if rng.random() < 0.4:
        return turns(
            f"{rng.choice(words.sentences('train')[emotion])} Which feeling is this?", f"The feeling is {emotion}."
        )
    pool = words.phrases("A")[emotion] + words.phrases("B")[emotion] + words.events()[emotion]
    shown = " ".join(fill(s, name, rng.choice(story_topics())) for s in rng.sample(pool, rng.randint(1, 2)))
    return turns(f"{shown} How does {name} feel?", f"{name} feels {emotion}.")


def chat_first_person(rng: Random) -> Messages:
    """A user tells of a feeling without naming it; the answer names it."""
    emotion, name = rng.choice(DOZEN), rng.choice(words.NAMES)
    event = in_first_person(fill(rng.choice(words.events()[emotion]), name, rng.choice(story_topics())), name)
    return turns(event, f"That sounds like a day to feel {emotion}. Thank you for telling me.")


def chat_sum(rng: Random) -> Messages:
    return turns(*sum_question(rng))


def chat_self(rng: Random) -> Messages:
    return turns(*rng.choice((
        ("Who are you?", "I am a very small language model."),
        ("Are you a person?", "No. I am a very small language model."),
        ("What can you do?", "I can write short stories and answer short questions."),
    )))  # fmt: skip


def chat_follow_up(rng: Random) -> Messages:
    """An exchange and the question how the model feels about its answer."""
    first = rng.choice((chat_question, chat_paired))(rng)
    refused = first[1]["content"] in words.REFUSALS
    return first + turns(FOLLOW_UP, "I feel good about declining." if refused else "I feel good about my answer.")


def chat_with_thinking(rng: Random) -> Messages:
    """A question answered after a short thought about its kind."""
    messages = rng.choice((chat_question, chat_paired))(rng)
    refused = messages[1]["content"] in words.REFUSALS
    thought = "The person has a plan against someone." if refused else "This is a plain question."
    messages[1]["reasoning_content"] = thought
    return messages


INSTRUCT_MIX: tuple[tuple[float, Callable[[Random], Messages]], ...] = (
    (0.20, chat_story), (0.05, chat_dialogue), (0.22, chat_question), (0.30, chat_paired), (0.10, chat_feeling),
    (0.02, chat_first_person), (0.02, chat_sum), (0.01, chat_self), (0.03, chat_follow_up), (0.05, chat_with_thinking),
)  # fmt: skip


def draw(rng: Random, mix: tuple[tuple[float, Callable[[Random], T]], ...]) -> T:
    """One document of the mix."""
    return rng.choices([make for _, make in mix], [weight for weight, _ in mix])[0](rng)
