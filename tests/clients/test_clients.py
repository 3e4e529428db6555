"""Clients: every bad value gives one clear error; what is stored is exact, frozen and own."""

from __future__ import annotations

import contextlib
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given
from hypothesis import strategies as st

from hasa_opt import AllocationProblem, Clients, cost, utility
from hasa_opt.errors import HasaError, InputError

NAMES = ["phone", "laptop", "server"]


def build(column: str, values, **more) -> Clients:
    columns = {"samples": [120, 80, 40], "names": NAMES} | more
    columns[column] = values
    return Clients(columns.pop("samples"), **columns)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("samples", [120, -1, 40], ["row 1", "laptop", "samples", "-1", "negative"]),
        ("samples", [120, np.nan, 40], ["row 1", "laptop", "samples", "nan"]),
        ("samples", [120, np.inf, 40], ["row 1", "laptop", "samples", "inf"]),
        ("samples", [120, 0.5, 40], ["row 1", "laptop", "samples", "0.5", "whole"]),
        ("samples", [120, 0, 40], ["row 1", "laptop", "samples", "empty client"]),
        ("samples", [120, 2.0**60, 40], ["row 1", "samples", "2**53"]),
        ("samples", np.array([1, 2**63, 4], dtype=np.uint64), ["row 1", "samples", "64-bit"]),
        ("samples", [120, 2**70, 40], ["samples"]),
        ("samples", [2**61, 2**61, 2**61], ["samples", "2**62"]),
        ("samples", ["a", "b", "c"], ["samples", "numbers"]),
        ("samples", [[1], [2], [3]], ["samples", "shape"]),
        ("samples", [], ["samples", "empty"]),
        ("samples", 3, ["samples", "shape"]),
        ("max_width", [0.5, 0.0, 1], ["row 1", "laptop", "max_width", "(0, 1]"]),
        ("max_width", [0.5, -0.2, 1], ["row 1", "laptop", "max_width"]),
        ("max_width", [0.5, 1.01, 1], ["row 1", "laptop", "max_width", "1.01"]),
        ("max_width", [0.5, np.nan, 1], ["row 1", "laptop", "max_width", "nan"]),
        ("max_width", [0.5, np.inf, 1], ["row 1", "laptop", "max_width", "inf"]),
        ("max_width", [0.5, 1], ["max_width", "2 rows", "3"]),
        ("max_width", [[0.5, 1]], ["max_width", "dimensions"]),
        ("max_width", ["x", "y", "z"], ["max_width", "numbers"]),
        ("names", ["a", "b", "a"], ["row 2", "names", "'a'", "row 0"]),
        ("names", ["a", "b"], ["names", "2 rows"]),
        ("names", ["a", " ", "c"], ["row 1", "names", "empty"]),
        ("names", "abc", ["names", "one string"]),
        ("site", ["x", "", "y"], ["row 1", "site", "empty"]),
        ("site", ["x"], ["site", "1 rows"]),
        ("counts", [[1, 2], [3, -4], [1, 1]], ["row 1", "laptop", "counts[1]", "-4"]),
        ("counts", [[1, 2], [3, np.nan], [1, 1]], ["row 1", "laptop", "counts[1]", "nan"]),
        ("counts", [[1, 2], [3, np.inf], [1, 1]], ["row 1", "laptop", "counts[1]", "inf"]),
        ("counts", [[1, 2], [3, 0.5], [1, 1]], ["row 1", "laptop", "counts[1]", "0.5"]),
        ("counts", [[1, 2], [0, 0], [1, 1]], ["row 1", "laptop", "counts", "no label"]),
        ("counts", [[1, 2], [3, 4]], ["counts", "2 rows", "3"]),
        ("counts", [[1, 2], [3], [4, 5]], ["counts", "ragged"]),
        ("counts", [1, 2, 3], ["counts", "dimensions"]),
        ("counts", np.zeros((3, 0)), ["counts", "label"]),
        ("counts", [["a"], ["b"], ["c"]], ["counts", "numbers"]),
        ("counts", sp.csr_array([[1, 2], [3, -4], [1, 1]]), ["row 1", "laptop", "counts[1]"]),
        ("counts", sp.csr_array([[1, 2], [3, np.nan], [1, 1]]), ["row 1", "counts[1]", "nan"]),
        ("counts", sp.csr_array([[1, 2], [3, 0.5], [1, 1]]), ["row 1", "counts[1]", "0.5"]),
        ("counts", sp.coo_array([[1, 2], [0, 0], [1, 1]]), ["row 1", "laptop", "no label"]),
        ("counts", sp.csr_array([[1, 2], [3, 4]]), ["counts", "2 rows", "3"]),
        ("counts", sp.csr_array([[1j], [1], [1]]), ["counts", "numbers"]),
    ],
)
def test_a_bad_value_gives_one_error_with_row_and_column(column, values, words):
    with pytest.raises(InputError) as caught:
        build(column, values)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_without_names_the_row_is_told_by_number():
    with pytest.raises(InputError, match=r"^row 1, column 'samples': -3 is negative"):
        Clients([1, -3])


def test_ragged_samples_are_an_input_error():
    with pytest.raises(HasaError, match="samples"):
        Clients([[1, 2], [3]])


@pytest.mark.parametrize("value", [np.float64(1e19), np.uint64(2**63 + 5), np.float64(2**60)])
def test_sparse_counts_beyond_int64_are_refused_like_dense_ones(value):
    table = np.array([[value]])
    with pytest.raises(InputError):
        Clients([1], counts=table)
    with pytest.raises(InputError), np.errstate(invalid="ignore"):
        Clients([1], counts=sp.csr_array(table))


def test_duplicates_of_small_integers_are_summed_exactly():
    entries = np.array([100, 100], dtype=np.int8)
    counts = sp.coo_array((entries, ([0, 0], [0, 0])), shape=(1, 1))
    assert Clients([1], counts=counts).counts.toarray().tolist() == [[200]]


@pytest.mark.parametrize("counts", [[[2**62, 2**62]], [[2**62, 1], [2**62, 1]]])
def test_counts_whose_sum_overflows_are_refused(counts):
    with pytest.raises(InputError, match=r"2\*\*62"):
        Clients([1] * len(counts), counts=counts)


@pytest.mark.parametrize("bad", [np.nan, -5, 0.5])
def test_from_counts_blames_the_column_that_was_given(bad):
    with pytest.raises(InputError, match="column 'counts"):
        Clients.from_counts([[3, 1], [bad, 1]])


def test_a_cap_below_the_narrowest_width_fails_when_the_problem_is_built():
    clients = Clients([1, 1], max_width=[1, 0.1], names=["phone", "watch"])
    with pytest.raises(InputError, match=r"row 1 \('watch'\), column 'max_width': 0\.1 is below"):
        AllocationProblem.build(
            clients, widths=(0.2, 0.5), budget=0.5, utility=utility.alpha_fair()
        )


def test_columns_defaults_and_views():
    clients = Clients([30, 10])
    assert len(clients) == 2
    assert clients.name(1) == "client-1"
    assert clients.counts is clients.max_width is clients.names is clients.site is None
    assert clients.weights.tolist() == [0.75, 0.25]
    assert repr(clients) == "Clients(n_clients=2, samples=40)"
    assert repr(build("counts", np.ones((3, 2)))) == (
        "Clients(n_clients=3, samples=240, n_labels=2)"
    )
    assert build("names", NAMES).name(2) == "server"


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float32, np.float64, bool])
def test_any_numeric_dtype_is_stored_as_int64(dtype):
    samples = np.ones(2, dtype=dtype)
    clients = Clients(samples, counts=np.eye(2, dtype=dtype), max_width=samples)
    assert clients.samples.dtype == clients.counts.dtype == np.int64
    assert clients.max_width.dtype == np.float64
    assert clients.samples.tolist() == [1, 1]


WHOLE = st.one_of(st.integers(1, 2**62 - 1), st.integers(0, 60).flatmap(
    lambda power: st.integers(max(1, 2**power - 2), 2**power + 2)
))  # fmt: skip
KINDS = [np.float16, np.float32, np.float64, np.longdouble, np.int64, np.uint64, object]


@given(value=WHOLE, kind=st.sampled_from(KINDS))
@example(value=2**24 + 1, kind=np.float32)
@example(value=2**11 + 1, kind=np.float16)
@example(value=2**53 + 1, kind=np.float64)
def test_a_count_is_exact_or_refused(value, kind):
    with np.errstate(over="ignore"):
        column = np.array([value]).astype(kind)
    table = np.array([[column[0], 0]], dtype=kind)
    builds = [
        lambda: Clients(column).samples[0],
        lambda: Clients([1], counts=table).counts[0, 0],
        lambda: Clients.from_counts(table).samples[0],
        lambda: cost.table(column, full=1)(Clients([1]), np.array([1]), 1).costs[0, 0],
    ]
    if kind in (np.float32, np.float64):
        builds.append(lambda: Clients([1], counts=sp.csr_array(table)).counts[0, 0])
    for build_it in builds:
        with contextlib.suppress(InputError):
            assert build_it() == value


def test_floats_below_their_precision_and_any_integer_are_taken():
    for kind, most in ((np.float16, 2**11 - 1), (np.float32, 2**24 - 1), (np.float64, 2**53 - 1)):
        assert Clients(np.array([most], dtype=kind)).samples.tolist() == [most]
    assert Clients([2**60, 2**60 + 1]).samples.tolist() == [2**60, 2**60 + 1]


def test_sums_of_counts_lose_nothing():
    counts = np.full((1, 3), 2**24 - 1, dtype=np.float32)
    assert Clients.from_counts(counts).samples.tolist() == [3 * (2**24 - 1)]
    assert Clients.from_counts(sp.csr_array(counts)).samples.tolist() == [3 * (2**24 - 1)]


def test_nullable_and_big_integers_are_numbers():
    pandas = pytest.importorskip("pandas")
    column = pandas.Series([2**53 + 1, 7], dtype="Int64", name="n")
    assert Clients(column).samples.tolist() == [2**53 + 1, 7]
    frame = pandas.DataFrame({"x": column, "y": pandas.Series([1, 2], dtype="UInt8")})
    assert Clients([1, 1], counts=frame).counts.tolist() == [[2**53 + 1, 1], [7, 2]]
    with pytest.raises(InputError, match=r"row 1, column 'max_width': <NA> is not a number"):
        Clients([1, 1], max_width=np.array([0.5, pandas.NA], dtype=object))
    with pytest.raises(
        InputError, match=r"row 1, column 'samples': <NA> is not a known whole number"
    ):
        Clients(np.array([3, pandas.NA], dtype=object))
    assert Clients([Decimal(3), Fraction(4), 5.0]).samples.tolist() == [3, 4, 5]
    with pytest.raises(InputError, match="row 1, column 'samples': 1180591620717411303424 exceeds"):
        Clients([120, 2**70])


def test_inputs_are_neither_modified_nor_aliased_and_what_is_stored_is_read_only():
    samples, caps = np.array([3, 4, 5]), np.array([0.5, 0.6, 1.0])
    counts = np.array([[1, 2], [3, 4], [5, 6]])
    sparse = sp.coo_array(([1, 1, 2, 5], ([0, 0, 1, 2], [0, 0, 1, 1])), shape=(3, 2)).tocsr()
    sparse.data = sparse.data.astype(np.int64)
    inputs = [samples, caps, counts, sparse.data, sparse.indices, sparse.indptr]
    before = [array.copy() for array in inputs]
    with_dense = Clients(samples, counts=counts, max_width=caps)
    with_sparse = Clients(samples, counts=sparse)
    stored = [
        with_dense.samples,
        with_dense.max_width,
        with_dense.counts,
        with_sparse.counts.data,
        with_sparse.counts.indices,
        with_sparse.counts.indptr,
    ]
    for handed, copy, kept in zip(inputs, before, stored, strict=True):
        assert handed.flags.writeable
        np.testing.assert_array_equal(handed, copy)
        assert not np.shares_memory(handed, kept)
    samples[0] = 99
    assert with_dense.samples[0] == 3
    for own in stored[:4]:
        with pytest.raises(ValueError, match="read-only"):
            own[0] = 1
    with pytest.raises(AttributeError):
        with_dense.samples = samples


def test_non_contiguous_and_read_only_columns():
    table = np.arange(1, 25).reshape(4, 6)
    table.flags.writeable = False
    clients = Clients(table[:, 1], counts=table[:, ::2], max_width=(table / 24)[:, 3])
    assert clients.samples.tolist() == [2, 8, 14, 20]
    np.testing.assert_array_equal(clients.counts, table[:, ::2])


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix])
def test_sparse_and_dense_counts_agree(kind):
    table = np.random.default_rng(0).integers(0, 3, (20, 9)) + np.eye(20, 9, dtype=int)
    table[:, 0] += 1
    dense, sparse = Clients.from_counts(table), Clients.from_counts(kind(table))
    np.testing.assert_array_equal(sparse.counts.toarray(), dense.counts)
    np.testing.assert_array_equal(sparse.samples, table.sum(axis=1))
    np.testing.assert_array_equal(dense.samples, table.sum(axis=1))


def test_a_million_clients_are_cheap():
    samples = np.arange(1, 1_000_001)
    started = time.process_time()
    clients = Clients(samples, max_width=np.full(samples.size, 0.5))
    assert time.process_time() - started < 1.0
    assert len(clients) == 1_000_000
    assert clients.name(999_999) == "client-999999"


def test_labels_name_the_columns_of_counts():
    clients = Clients([3, 4], counts=[[1, 2], [3, 1]], labels=["cat", "dog"])
    assert clients.labels == ("cat", "dog")
    for more, words in (
        ({"labels": ["cat", "dog"]}, "give counts"),
        ({"labels": ["cat"], "counts": [[1, 2], [3, 1]]}, "1 labels for 2 columns"),
        ({"labels": ["cat", "cat"], "counts": [[1, 2], [3, 1]]}, "'cat' already names"),
    ):
        with pytest.raises(InputError, match=words):
            Clients([3, 4], **more)


# ---------------------------------------------------------------------------------------- CSV


def write(tmp_path, text: str | bytes):
    path = tmp_path / "clients.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


WIDE = "name,samples,max_width,site,count:cat,count:dog\n"
LONG = "name,label,count,samples,max_width,site\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        (",,\n\n", ["is empty"]),
        (WIDE, ["no client"]),
        ("name,samples\na,1\nb\n", ["line 3", "1 fields", "2", "'samples'"]),
        ("name,samples\na,1\nb,2,3\n", ["line 3", "3 fields"]),
        ("name,samples\na,1\n\nb,2,3\n", ["line 4", "3 fields"]),
        ("samples\n1\n", ["no column 'name'", "samples"]),
        ("name\na\n", ["no column 'samples'"]),
        ("name,samples,samples\na,1,1\n", ["'samples'", "2 times"]),
        ("name,samples,colour\na,1,red\n", ["unknown column 'colour'", "max_width"]),
        ("name,samples,count\na,1,2\n", ["unknown column 'count'"]),
        ("name,samples\na,-1\n", ["line 2", "'samples'", "-1"]),
        ("name,samples\na,1\nb,0\n", ["line 3", "'samples'", "empty client"]),
        ("name,samples\na,1.5\n", ["line 2", "'samples'", "1.5", "whole"]),
        ("name,samples\na,nan\n", ["line 2", "'samples'", "nan"]),
        ("name,samples\na,\n", ["line 2", "'samples'"]),
        ("name,samples\na,9223372036854775808\n", ["line 2", "'samples'", "2**62"]),
        ("name,samples\na,4611686018427387903\nb,99\n", ["samples", "2**62"]),
        ("name,samples\na,1\na,2\n", ["line 3", "'name'", "line 2"]),
        ("name,samples\n ,1\n", ["line 2", "'name'", "empty"]),
        ("name,samples,max_width\na,1,0\n", ["line 2", "'max_width'", "(0, 1]"]),
        ("name,samples,max_width\na,1,nan\n", ["line 2", "'max_width'", "nan"]),
        ("name,samples,max_width\na,1,wide\n", ["line 2", "'max_width'", "wide"]),
        ("name,samples,max_width\na,1,1.2\n", ["line 2", "'max_width'", "1.2"]),
        ("name,samples,count:x\na,1,-2\n", ["line 2", "'count:x'", "-2"]),
        ("name,samples,count:x\na,1,half\n", ["line 2", "'count:x'", "half"]),
        ("name,samples,count:x\na,1,0\n", ["'a'", "counts"]),
        ("name,samples,site\na,1,\n", ["site", "empty"]),
        ("name,label,counts\na,x,1\n", ["unknown column 'counts'"]),
        ("name,label,count\na,,1\n", ["line 2", "'label'", "empty"]),
        ("name,samples,count:\na,1,1\n", ["column 'count:' has no label"]),
        ("name,samples\na,1_000\n", ["line 2", "'samples'", "1_000", "whole"]),
        ("name;samples\na;1.000\n", ["line 2", "1.000", "thousands", "write 1000 or 1"]),
        ("name,samples\na,1e400000000\n", ["line 2", "2**62"]),
        ("name,samples\na;b\n", ["line 2", "1 fields", "is it semicolons"]),
        ("name:samples\na:1\n", ["'name:samples' alone", "commas", "delimiter="]),
        ("PK\x03\x04 and more", ["workbook", "CSV"]),
        ("name,label,count,size\na,x,1,2\n", ["unknown column 'size'"]),
        ("name,label,count\na,x,1\na,x,2\n", ["line 3", "'label'", "line 2"]),
        ("name,label,count\na,x,-1\n", ["line 2", "'count'", "-1"]),
        (LONG + "a,x,1,9,0.5,s\na,y,1,8,0.5,s\n", ["line 3", "'samples'", "8", "9"]),
        (LONG + "a,x,1,9,0.5,s\na,y,1,9,0.6,s\n", ["line 3", "'max_width'", "0.6"]),
        (LONG + "a,x,1,9,0.5,s\na,y,1,9,0.5,t\n", ["line 3", "'site'", "'t'"]),
        (LONG + "a,x,1,0,0.5,s\n", ["line 2", "'samples'"]),
        (bytes(range(1, 256)), ["UTF-8", "encoding="]),
        (b"\xff\xfename,", ["line 1", "utf-16"]),
        (b"\x1f\x8b" + b"name,samples", ["gzip"]),
        ('name,samples\n"' + "x" * 200_000 + '",1\n', ["line 2", "CSV"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*was read with semicolons")
def test_a_bad_file_gives_one_error_with_line_and_column(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        Clients.read_csv(path)
    message = str(caught.value)
    assert all(word in message for word in words), message


def test_an_absent_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        Clients.read_csv(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="cannot read"):
        Clients.read_csv(tmp_path)


def test_the_two_formats_do_not_mix(tmp_path):
    path = write(tmp_path, "name,label,count,count:cat\na,x,1,5\n")
    with pytest.raises(InputError, match="count:cat"):
        Clients.read_csv(path)


def test_equal_numbers_written_differently_do_not_contradict(tmp_path):
    path = write(tmp_path, LONG + "a,x,1,2,1,s\na,y,1,2,1.0,s\n")
    assert Clients.read_csv(path).max_width.tolist() == [1.0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_reads_the_wide_format(tmp_path, encoding):
    text = WIDE + 'Ångström,120,0.5,Oslo,100,20\n"a, b",80,1,Rome,10,70\n'
    clients = Clients.read_csv(write(tmp_path, text.encode(encoding)))
    assert clients.names == ("Ångström", "a, b")
    assert clients.samples.tolist() == [120, 80]
    assert clients.max_width.tolist() == [0.5, 1.0]
    assert clients.site == ("Oslo", "Rome")
    assert clients.counts.tolist() == [[100, 20], [10, 70]]


def test_reads_the_long_format(tmp_path):
    text = LONG + "a,x,100,7,0.5,s\nb,y,70,9,1,t\na,y,20,7,0.5,s\n"
    clients = Clients.read_csv(write(tmp_path, text))
    assert clients.names == ("a", "b")
    assert clients.samples.tolist() == [7, 9]
    assert clients.max_width.tolist() == [0.5, 1.0]
    assert clients.site == ("s", "t")
    assert clients.counts.toarray().tolist() == [[100, 20], [0, 70]]


def test_in_the_long_format_samples_default_to_the_sum_of_the_counts(tmp_path):
    text = "name,label,count\nphone,cat,100\nphone,dog,20\nlaptop,dog,70\n"
    clients = Clients.read_csv(write(tmp_path, text))
    assert clients.samples.tolist() == [120, 70]
    assert clients.max_width is None


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_what_is_written_is_read_back(tmp_path, kind):
    rng = np.random.default_rng(3)
    original = Clients(
        rng.integers(1, 5, 30),
        counts=kind(rng.integers(0, 5, (30, 4)) + np.eye(30, 4, dtype=int) + 1),
        max_width=rng.uniform(0.01, 1, 30),
        names=[f'c "{row}", x\n' for row in range(30)],
        site=[f"site {row % 3}" for row in range(30)],
    )
    original.to_csv(tmp_path / "out.csv")
    back = Clients.read_csv(tmp_path / "out.csv")
    np.testing.assert_array_equal(back.samples, original.samples)
    np.testing.assert_array_equal(back.max_width, original.max_width)
    table = original.counts if kind is np.asarray else original.counts.toarray()
    np.testing.assert_array_equal(back.counts, table)
    assert back.names == original.names
    assert back.site == original.site


def test_bare_clients_survive_the_round_trip(tmp_path):
    Clients([5, 6]).to_csv(tmp_path / "out.csv")
    back = Clients.read_csv(str(tmp_path / "out.csv"))
    assert back.samples.tolist() == [5, 6]
    assert back.names == ("client-0", "client-1")
    assert back.counts is back.max_width is back.site is None


def test_caps_end_with_the_menu_and_means_count_samples() -> None:
    capped = Clients([100, 300], max_width=[0.5, 1.0])
    assert capped.caps(0.8).tolist() == [0.5, 0.8]
    assert Clients([100, 300]).caps(0.8).tolist() == [0.8, 0.8]
    assert capped.mean(np.array([0.2, 0.6])) == pytest.approx(0.5)
