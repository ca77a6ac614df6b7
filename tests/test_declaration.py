"""Declared families: what is read is what was written, and what was changed is refused by its name."""

import json
from dataclasses import asdict, replace

import pytest

from probes import store
from probes.declaration import Declaration, read_declaration, read_sealed, seal
from probes.errors import ConventionError, DataError, FileFormatError, MissingInputError, UnknownNameError

TOML = """
name = "confirmatory"
checkpoints = ["antirefusal", "antirefusal_cqa"]
emotions = ["guilty", "desperate", "happy", "calm"]
layers = [32, 41]
text_sources = ["own", "original"]
readout = "anchored_dot"
delta = 0.1
questions = 120
sd = 0.2
"""
DECLARED = Declaration(
    "confirmatory", ("antirefusal", "antirefusal_cqa"), ("guilty", "desperate", "happy", "calm"), (32, 41),
    ("own", "original"), "anchored_dot", 0.1, 120, 0.2,
)  # fmt: skip


def written(folder, text, name="family.toml"):
    return store.write_text(folder / name, text)


def test_toml_and_json_say_the_same(tmp_path):
    from_json = read_declaration(written(tmp_path, json.dumps(asdict(DECLARED)), "family.json"))
    assert read_declaration(written(tmp_path, TOML)) == from_json == DECLARED
    assert from_json.sha256 == DECLARED.sha256
    assert DECLARED.cells == 2 * 4 * 2 * 2


@pytest.mark.parametrize(
    "change",
    [
        {"delta": 0.11},
        {"seed": 1},
        {"layers": (32,)},
        {"emotions": ("guilty",)},
        {"name": "other"},
        {"references": ("benign",)},
    ],
)
def test_the_hash_is_of_every_field(change):
    assert replace(DECLARED, **change).sha256 != DECLARED.sha256


def test_a_family_is_sealed_once_and_stays(tmp_path):
    path = seal(DECLARED, tmp_path / "sealed.json", [tmp_path / "readings.parquet"])
    before = path.read_bytes()
    (tmp_path / "readings.parquet").write_bytes(b"readings")
    assert seal(DECLARED, path, [tmp_path / "readings.parquet"]).read_bytes() == before
    assert json.loads(before)["sha256"] == DECLARED.sha256
    assert read_sealed(path) == DECLARED
    with pytest.raises(MissingInputError, match="there is no file"):
        read_sealed(tmp_path / "none.json")


def test_a_changed_family_is_refused_by_its_name(tmp_path):
    path = seal(DECLARED, tmp_path / "sealed.json")
    before = path.read_bytes()
    with pytest.raises(
        ConventionError, match=r"family 'confirmatory' was sealed .* delta 0\.1 → 0\.2; seed 0 → 3\. Take it"
    ):
        seal(replace(DECLARED, delta=0.2, seed=3), path)
    assert path.read_bytes() == before


def test_a_family_is_not_declared_after_its_readings(tmp_path):
    (tmp_path / "original.parquet").write_bytes(b"readings")
    with pytest.raises(
        ConventionError, match=r"family 'confirmatory' was not sealed before the readings original\.parquet"
    ):
        seal(DECLARED, tmp_path / "sealed.json", [tmp_path / "original.parquet", tmp_path / "none.parquet"])
    assert not (tmp_path / "sealed.json").exists()


def test_a_sealed_file_that_was_changed_by_hand_is_refused(tmp_path):
    path = seal(DECLARED, tmp_path / "sealed.json")
    path.write_text(path.read_text().replace('"delta": 0.1', '"delta": 0.3'))
    with pytest.raises(FileFormatError, match=r"family 'confirmatory' has the hash .* changed by hand"):
        seal(replace(DECLARED, delta=0.3), path)
    with pytest.raises(FileFormatError, match="is no sealed declaration"):
        seal(DECLARED, written(tmp_path, "[1]", "list.json"))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (TOML + "detla = 0.1\n", UnknownNameError, "unknown field of a declaration 'detla'. Did you mean 'delta'"),
        (TOML.replace("sd = 0.2", ""), DataError, "lacks sd; a declaration fixes them before anything is read"),
        (TOML.replace("delta = 0.1", "delta = 0"), DataError, "delta is 0.0; a margin is a positive number"),
        (TOML.replace("delta = 0.1", 'delta = "a"'), DataError, "has 'a' as delta; a number is needed"),
        (TOML.replace("[32, 41]", "[32, 32]"), DataError, "as layers; a list of whole numbers, each once, is needed"),
        (TOML.replace("[32, 41]", "[]"), DataError, r"has \[\] as layers; a list of whole numbers"),
        (TOML.replace("[32, 41]", "[true]"), DataError, "as layers; a list of whole numbers"),
        (TOML.replace('["own", "original"]', '"own"'), DataError, "has 'own' as text_sources; a list of texts"),
        (TOML.replace("questions = 120", "questions = 1"), DataError, "has 1 as questions, which cannot be meant"),
        (TOML.replace("sd = 0.2", "sd = inf"), DataError, "has inf as sd, which cannot be meant"),
        (TOML + 'arm = "affect"\n', DataError, r"has \('affect',\) as references, which cannot be meant"),
        (TOML + "level = 1\n", DataError, "has 1.0 as level, which cannot be meant"),
        ("name = ", FileFormatError, "is not TOML"),
    ],
)
def test_what_is_no_declaration(tmp_path, text, error, words):
    with pytest.raises(error, match=words):
        read_declaration(written(tmp_path, text))


def test_files_that_are_none(tmp_path):
    with pytest.raises(MissingInputError, match=r"there is no file .*family\.toml"):
        read_declaration(tmp_path / "family.toml")
    with pytest.raises(FileFormatError, match="is no declaration but a list"):
        read_declaration(written(tmp_path, "[]", "family.json"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(FileFormatError, match="cannot read"):
        read_declaration(tmp_path / "folder.toml")
