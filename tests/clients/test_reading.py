"""Files as people have them: encodings, delimiters, compression, open files, blanks and quotes."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import unicodedata
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasa_opt import Clients
from hasa_opt.errors import InputError

NAMES = ("M\u00fcnchen", "K\u00f6ln", "D\u00fcsseldorf")
TEXT = "name,samples\n" + "".join(f"{name},{10 * at + 10}\n" for at, name in enumerate(NAMES))
LETTERS = st.characters(exclude_categories=["C", "Z"], exclude_characters='"')
WORDS = st.text(LETTERS, min_size=1).map(lambda text: unicodedata.normalize("NFC", text).strip())
FLEETS = st.lists(WORDS.filter(bool), min_size=1, max_size=5, unique=True)


def read(content: str | bytes, **options) -> Clients:
    content = content.encode() if isinstance(content, str) else content
    return Clients.read_csv(io.BytesIO(content), **options)


def refused(content: str | bytes, *words: str, **options) -> None:
    with pytest.raises(InputError) as caught:
        read(content, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# ---------------------------------------------------------------------------- bytes and separators


@pytest.mark.parametrize("value", [5, b";", [","], 1.5])
def test_how_a_file_is_written_is_told_in_words_or_refused(value):
    for option in ("delimiter", "encoding"):
        refused(TEXT, option, repr(value), **{option: value})


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(TEXT.encode("utf-16"), mtime=0),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
)
def test_what_the_bytes_say_is_read_without_a_warning(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clients = read(data)
    assert clients.names == NAMES
    assert clients.samples.tolist() == [10, 20, 30]


def test_an_encoding_that_is_guessed_is_said_with_an_example():
    with pytest.warns(UserWarning, match=r"read as cp1252 \('M\u00fcnchen'; .* as well\)"):
        assert read(TEXT.encode("latin-1")).names == NAMES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(TEXT.encode("latin-1"), encoding="latin-1").names == NAMES
        assert read(codecs.BOM_UTF8 + TEXT.encode(), encoding="utf-8").names == NAMES


@given(FLEETS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030"]))
def test_any_names_survive_any_encoding_that_is_told(names, encoding):
    text = "name,samples\n" + "".join(f'"{name}",1\n' for name in names)
    clean = tuple(dict.fromkeys(names))
    assert read(text.encode(encoding), encoding=encoding).names == clean


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (TEXT.encode("latin-1"), {"encoding": "utf-8"}, ["line 2", "not utf-8 text"]),
        (TEXT.encode(), {"encoding": "utf-9"}, ["'utf-9' is not known"]),
        (gzip.compress(TEXT.encode(), mtime=0)[:-5], {}, ["a damaged gzip file"]),
        (b"name,samples\na,1\n\x00\x01", {}, ["no text file", "NUL", "CSV", "encoding="]),
        ("name,samples\na\x00,1\n", {}, ["no text file", "NUL"]),
        (bytes(range(256)) * 9, {}, ["no text file", "NUL"]),
        (bytes(range(256)), {"encoding": "latin-1"}, ["no text file", "NUL"]),
        (TEXT.encode(), {"delimiter": "::"}, ["one character"]),
        (TEXT.encode(), {"delimiter": ";"}, ["no column 'name'", "semicolons"]),
    ],
)
def test_what_cannot_be_read_says_why(data, options, words):
    refused(data, *words, **options)


@pytest.mark.parametrize(("sign", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_other_delimiters_are_found_and_said(sign, words):
    text = TEXT.replace(",", sign)
    with pytest.warns(UserWarning, match=f"read with {words} between cells: say delimiter="):
        assert read(text).names == NAMES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(text, delimiter=sign).names == NAMES
        assert read(f"sep={sign}\r\n{text}").names == NAMES
    with pytest.raises(InputError, match="line 4"):  # of the file, with the line that says sep=
        read(f"sep={sign}\nname{sign}samples\na{sign}1\nb{sign}x\n")


def test_beside_semicolons_a_comma_is_decimal():
    text = "name;samples;max_width\na;1;0,5\nb;1;0.25\n"
    assert read(text, delimiter=";").max_width.tolist() == [0.5, 0.25]
    refused('name,samples,max_width\na,1,"0,5"\n', "line 2", "'max_width'", "'0,5'")
    refused("name;samples\na;1,5\n", "'1,5' is not a whole number", delimiter=";")


def test_open_files_are_read(tmp_path):
    path = tmp_path / "clients.csv"
    path.write_text(TEXT, encoding="utf-8")
    with path.open(encoding="utf-8") as text, path.open("rb") as binary:
        assert Clients.read_csv(text).names == Clients.read_csv(binary).names == NAMES
    assert Clients.read_csv(io.StringIO(TEXT)).names == NAMES
    with pytest.raises(InputError, match=r"cannot read .*clients\.csv: I/O operation on closed"):
        Clients.read_csv(text)
    with path.open("w") as write_only, pytest.raises(InputError, match="not readable"):
        Clients.read_csv(write_only)
    with pytest.raises(InputError, match="give a path or an open file"):
        Clients.read_csv(7)


# ---------------------------------------------------------------------------------- rows and cells


@pytest.mark.parametrize("blank", ["\n", "\r\n", ",,\n", " , ,\n", "\u00a0,\n"])
def test_blank_rows_are_left_out_wherever_they_stand(blank):
    rows = ["name,samples\n", "a,1\n", "b,2\n"]
    for at in range(len(rows) + 1):
        clients = read("".join([*rows[:at], blank, blank, *rows[at:]]))
        assert clients.names == ("a", "b")
        assert clients.samples.tolist() == [1, 2]


def test_blank_columns_at_the_end_are_left_out():
    assert read("name,samples,,\na,1,,\nb,2\n").names == ("a", "b")
    refused("name,samples,\na,1,x\n", "line 2", "3 fields, the header has 2")
    refused("name,,samples\na,,1\n", "unknown column ''")


@pytest.mark.parametrize("ending", ["", '"', '"z\n', 'e"\n', '\n"f",1,"z"\n'])
def test_an_unclosed_quote_never_swallows_clients(ending):
    text = 'name,samples,site\na,10,x\nb,20,"y\nc,30,x\nd,40,z\n' + ending
    refused(text, "line 3")


@given(
    st.lists(st.sampled_from(["a", "b c", "", "1", "0.5"]), min_size=2, max_size=6),
    st.integers(0, 5),
    st.integers(0, 2),
    st.sampled_from(["start", "end", "both"]),
)
def test_one_quote_too_many_costs_no_client_silently(sites, row, column, place):
    rows = [[f"n{at}", str(at + 1), site or "s"] for at, site in enumerate(sites)]
    row %= len(rows)
    cell = rows[row][column]
    rows[row][column] = {"start": '"' + cell, "end": cell + '"', "both": f'"{cell}"'}[place]
    text = "name,samples,site\n" + "".join(",".join(cells) + "\n" for cells in rows)
    if place == "both":
        assert len(read(text)) == len(sites)
        return
    with contextlib.suppress(InputError):
        assert len(read(text)) == len(sites)


def test_whole_numbers_are_read_as_the_api_takes_them():
    text = "name,samples,count:x\na,120.0,1e2\nb, 80 ,+7\n"
    with pytest.warns(UserWarning, match="labels were counted"):
        clients = read(text)
    assert clients.samples.tolist() == [120, 80]
    assert clients.counts.tolist() == [[100], [7]]
    assert Clients([120.0, 80]).samples.tolist() == [120, 80]


@given(st.integers(0, 2**61), st.sampled_from(["{}", "{}.0", "{}.", " {}", "{}e0", "{}0e-1"]))
def test_a_whole_number_keeps_all_its_digits(value, form):
    text = f"name,samples,count:x,count:y\na,1,{form.format(value)},1\n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one sample, many labels
        assert read(text).counts.tolist() == [[value, 1]]


# --------------------------------------------------------------------------------- names and labels


def test_two_spellings_of_one_client_are_refused_with_both_lines():
    refused("name,samples\nphone,1\nx,1\nphone\u00a0,2\n", "line 4", "line 2", r"'phone\xa0'")
    refused("name,label,count\na,dog,1\na, dog,2\n", "line 3", "line 2", "' dog'", "of 'a'")
    refused("name,samples\ncaf\u00e9,1\ncafe\u0301,2\n", "line 3", r"'cafe\u0301'")
    refused(
        "name,samples,count:dog,count: dog\na,2,1,1\n",
        "'count:dog' and 'count: dog' count one label",
    )


def test_rows_of_one_sample_are_summed_whatever_the_spelling():
    clients = read(
        "name,label\nphone,cat\nphone , dog\n phone,dog\u00a0\ncaf\u00e9,cat\ncafe\u0301,cat\n"
    )
    assert clients.names == ("phone", "caf\u00e9")
    assert clients.labels == ("cat", "dog")
    assert clients.counts.toarray().tolist() == [[1, 2], [2, 0]]
    assert clients.samples.tolist() == [3, 2]


SPELLINGS = ("{}", " {}", "{} ", "\u00a0{}", "{}\u2003")


@given(st.lists(st.tuples(st.sampled_from("ab\u00e9"), st.sampled_from("xy"),
                          st.sampled_from(SPELLINGS), st.booleans()), min_size=1))  # fmt: skip
def test_samples_count_the_same_as_their_table_of_counts(drawn):
    lines = [
        (unicodedata.normalize("NFD" if split else "NFC", form.format(name)), form.format(label))
        for name, label, form, split in drawn
    ]
    clients = read("name,label\n" + "".join(f"{name},{label}\n" for name, label in lines))
    keys = [(name, label) for name, label, *_ in drawn]
    for row, name in enumerate(clients.names):
        for column, label in enumerate(clients.labels):
            assert clients.counts[row, column] == keys.count((name, label))
    assert clients.samples.sum() == len(drawn)


@given(names=FLEETS, labels=FLEETS, data=st.data())
def test_whatever_clients_hold_is_written_and_read_back(tmp_path_factory, names, labels, data):
    blanks = st.text(st.sampled_from(" \t\u00a0\u3000"), max_size=2)
    spelled = [data.draw(blanks) + name + data.draw(blanks) for name in names]
    counts = np.arange(1, len(names) * len(labels) + 1).reshape(len(names), -1)
    written = Clients(
        counts.sum(axis=1),
        counts=counts,
        names=spelled,
        labels=[data.draw(blanks) + label + data.draw(blanks) for label in labels],
        site=names[::-1],
        max_width=np.linspace(0.1, 1, len(names)),
    )
    path = tmp_path_factory.mktemp("written") / "clients.csv"
    written.to_csv(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = Clients.read_csv(path)
    assert (back.names, back.labels, back.site) == (written.names, written.labels, written.site)
    assert back.counts.tolist() == counts.tolist()
    assert back.max_width.tolist() == written.max_width.tolist()


# --------------------------------------------------------------------------- samples beside counts


@pytest.mark.parametrize(
    "text",
    [
        "name,samples,count:x\nphone,100,40\nb,10,500\n",
        "name,samples,count:x\nphone,100,101\nb,10,10\nc,7,7\n",
        "name,label,count,samples\nphone,x,5,9\n",
        "name,label,samples\nphone,x,1\nphone,y,1\n",
    ],
)
def test_samples_that_the_counts_belie_are_named(text):
    with pytest.warns(UserWarning, match=r"'phone' has \d+ samples, but \d+ labels were counted"):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        "name,samples,count:x\na,10,500\nb,3,90\n",
        "name,samples,count:x\na,10,10\nb,3,3\n",
        "name,label,samples\na,x,2\na,y,2\n",
    ],
)
def test_words_of_texts_and_one_label_each_are_no_contradiction(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(text)


@given(
    columns=st.permutations(["name", "samples", "max_width", "site", "count:x"]),
    again=st.sampled_from(["name", "samples", "max_width", "site", "count:x"]),
    form=st.sampled_from(SPELLINGS),
    place=st.integers(0, 5),
)
def test_a_column_that_stands_twice_is_refused_wherever_it_stands(columns, again, form, place):
    cells = {"name": "a", "samples": "2", "max_width": "1", "site": "s", "count:x": "2"}
    header = [*columns[:place], again, *columns[place:]]
    spelled = [form.format(name) if at == place else name for at, name in enumerate(header)]
    row = ",".join(cells[name] for name in header)
    refused(f"{','.join(spelled)}\n{row}\n", repr(again), "2 times in the header")
