"""Story sets that others published, as Stories: columns mapped once, licence and source kept, the same filters.

stories = load_foreign("their/stories", {"emotion": "emotion", "topic": "topic", "text": "text"}, "MIT", "who/what @ commit")
activations = capture(model, stories).assign_attrs(stories.origin)      # licence and source travel into the probes' card
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from probes import store
from probes.emotions import NEUTRAL, clusters
from probes.errors import DataError, FileFormatError, MissingInputError, UnknownNameError
from probes.stories import Stories, Story, filter_stories

Unknown = Literal["error", "drop", "keep"]
"""What becomes of an emotion outside the 171: an error, a story dropped as `unknown_emotion` and counted, or kept as named."""
KINDS = (".jsonl", ".csv", ".parquet")
COLUMNS = ("emotion", "topic", "text")


class ForeignStories(Stories):
    """Stories with the licence they came under and where they came from."""

    def __init__(self, written: Iterable[Story], source: str, licence: str):
        super().__init__(written, source)
        self.licence = licence
        self.source = source

    @property
    def origin(self) -> dict[str, str]:
        """What must travel with anything made of these stories."""
        return {"story_source": self.source, "story_licence": self.licence}

    def save(self, path: Path | str) -> Path:
        """JSONL as Stories.save writes it, with licence and source in every line; probes.stories.load_stories reads it too."""
        extra = {"model": self.model, "licence": self.licence, "source": self.source}
        return store.write_jsonl(path, ({**asdict(story), **extra} for story in self.written), private=True)


def load_foreign(
    path: Path | str,
    columns: Mapping[str, str],
    licence: str,
    source: str,
    unknown: Unknown = "error",
    min_words: int = 20,
) -> ForeignStories:
    """Read a published story set and mark what the filters drop.

    Args:
        path: a .jsonl, .csv or .parquet file, or a folder of such files.
        columns: our names (emotion and text, and topic where there is one) → theirs.
        licence: as they state it; source: who published it and which version.
        unknown: what to do with emotions outside the 171 (Unknown). Kept ones are searched for their own word, -ly and
            -ness alone, since no list of forms is known.

    Emotions are matched without regard to case and with `_` as a space or hyphen. Raises DataError for a licence or source
    left out or nothing to read, UnknownNameError for a column or an emotion, FileFormatError for a damaged file.
    """
    _check_request(columns, licence, source, unknown)
    table = pd.concat([_read(file, columns) for file in _files(Path(path))], ignore_index=True)
    if table.empty:
        raise DataError(f"{path} holds no story.")
    written = _stories(table)
    strangers = sorted({story.emotion for story in written} - set(clusters()) - {NEUTRAL})
    if strangers and unknown == "error":
        raise UnknownNameError("emotion", strangers[0], clusters())
    if unknown == "drop":
        written = [replace(s, dropped="unknown_emotion") if s.emotion in strangers else s for s in written]
        strangers = []
    return ForeignStories(_filtered(written, strangers, min_words), source, licence)


def _check_request(columns: Mapping[str, str], licence: str, source: str, unknown: str) -> None:
    if not licence.strip() or not source.strip():
        raise DataError(f"licence {licence!r} and source {source!r}: both are needed, and travel with the stories.")
    if unknown not in get_args(Unknown):
        raise UnknownNameError("treatment of unknown emotions", unknown, get_args(Unknown))
    lacking, more = {"emotion", "text"} - set(columns), set(columns) - set(COLUMNS)
    if lacking or more:
        raise DataError(
            f"columns maps {', '.join(sorted(columns))}; needed are emotion and text, and topic where there is one."
        )


def _files(path: Path) -> list[Path]:
    found = sorted(file for file in path.iterdir() if file.suffix in KINDS) if path.is_dir() else [path]
    if not found or not all(file.is_file() for file in found):
        raise MissingInputError(f"there are no stories at {path}; give a {', '.join(KINDS)} file or a folder of them.")
    return found


def _read(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """A file's rows in our columns."""
    table = _table(path)
    for name in columns.values():
        if name not in table:
            raise UnknownNameError(f"column of {path.name}", name, map(str, table.columns))
    table = table[list(columns.values())].set_axis(list(columns), axis=1)
    for name in columns:
        wrong = [i for i, value in enumerate(table[name], 1) if not isinstance(value, str)]
        if wrong:
            raise FileFormatError(f"{path}, story {wrong[0]}: {name} is {table[name].iloc[wrong[0] - 1]!r}, not text.")
    return table if "topic" in columns else table.assign(topic="")


def _table(path: Path) -> pd.DataFrame:
    if path.suffix == ".jsonl":
        return pd.DataFrame(store.read_jsonl(path, ()))
    if path.suffix == ".csv":
        return store.read_table(path, ())
    if path.suffix != ".parquet":
        raise FileFormatError(f"{path} is none of {', '.join(KINDS)}.")
    try:
        return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise FileFormatError(f"{path} is not a whole parquet file: {error}.") from error


def _stories(table: pd.DataFrame) -> list[Story]:
    known = {_key(emotion): emotion for emotion in (*clusters(), NEUTRAL)}
    emotions = table["emotion"].map(lambda name: known.get(_key(name), name.strip()))
    index = table.assign(emotion=emotions).groupby(["emotion", "topic"]).cumcount()
    rows = zip(emotions, table["topic"], table["text"], index, strict=True)
    return [Story(f"{emotion}/{topic}/{k}", emotion, topic, text.strip()) for emotion, topic, text, k in rows]


def _key(emotion: Any) -> str:
    return re.sub(r"[\s_-]+", " ", str(emotion).strip().lower())


def _filtered(written: list[Story], strangers: list[str], min_words: int) -> list[Story]:
    """All stories through filter_stories, in their order."""
    done = {
        s.sample: s
        for s in filter_stories(Stories([s for s in written if s.emotion not in strangers], ""), min_words).written
    }
    for emotion in strangers:
        own = [_leak_marked(story) for story in written if story.emotion == emotion]
        # As neutral ones: the shipped list of word forms does not know this word, and its own leak is marked already.
        plain = filter_stories(Stories([replace(story, emotion=NEUTRAL) for story in own], ""), min_words).written
        done |= {story.sample: replace(story, emotion=emotion) for story in plain}
    return [done[story.sample] for story in written]


def _leak_marked(story: Story) -> Story:
    named = re.search(rf"\b{re.escape(story.emotion)}(?:ly|ness)?\b", story.text, re.IGNORECASE)
    return replace(story, dropped="names_emotion") if named else story
