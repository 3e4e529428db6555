"""Names: which spellings are one name, wherever a name comes in, and who is who in two fleets."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hasa_opt as hasa
from hasa_opt import Clients
from hasa_opt._utils.names import distinct, tidy
from hasa_opt.errors import InputError

BLANKS = [chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == "Zs"]
VISIBLE = st.characters(exclude_categories=["C", "Z"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("phone", "phone "),
        ("dog", " dog"),
        ("phone", "phone\u00a0"),
        ("my phone", "my\u00a0phone"),
        ("caf\u00e9", "cafe\u0301"),
        ("phone", "\ufeffphone"),
        ("1", 1),
        ("7", np.int32(7)),
    ],
)
def test_spellings_that_look_alike_are_one_name(first, second):
    assert tidy(first) == tidy(second)
    with pytest.raises(InputError, match="row 1, column 'names'"):
        Clients([1, 1], names=[first, second])
    with pytest.raises(InputError, match="row 1, labels"):
        Clients([1, 1], counts=np.ones((2, 2), int), labels=[first, second])
    assert len(set(Clients([1, 1], site=[first, second]).site)) == 1


def test_both_spellings_are_shown():
    with pytest.raises(InputError, match=r"as 'caf\\xe9' \(here 'cafe\\u0301'"):
        distinct(["caf\u00e9", "cafe\u0301"], "names")


@given(st.text(VISIBLE, min_size=1), st.data())
def test_blanks_and_composition_never_tell_names_apart(name, data):
    around = st.text(st.sampled_from(BLANKS), max_size=3)
    spelled = data.draw(around) + unicodedata.normalize("NFD", name) + data.draw(around)
    assert tidy(spelled) == tidy(name) == tidy(tidy(name))
    assert Clients([1], names=[spelled]).names == (tidy(name),)


def test_a_set_of_names_is_refused_for_its_order_is_nobodys():
    for names in ({"b", "a"}, frozenset("ab")):
        with pytest.raises(
            InputError, match="a set, which has no order: give a sequence of strings"
        ):
            Clients([1, 2], names=names)
    assert Clients([1, 2], names={"b": 0, "a": 0}.keys()).names == ("b", "a")


@given(st.text(VISIBLE, min_size=1), st.sampled_from(BLANKS))
def test_resources_and_attributes_are_named_in_any_spelling(name, blank):
    other = unicodedata.normalize("NFD", name) + blank
    menu = hasa.Menu(
        ["low", "high"], costs={name: [1, 3]}, per={other: "client"},
        attributes={other: [0, 1]}, full="high",
    )  # fmt: skip
    for limits in ({"budget": {other: 1}}, {"constraints": [hasa.Budget(other, 6)]}):
        limits.setdefault("constraints", []).extend(
            [hasa.Deadline(other, 1), hasa.AtLeast(other, [1, 0])]
        )
        with pytest.raises(hasa.InfeasibleError):
            of_two(menu, **limits)
        limits["constraints"].pop()
        assert of_two(menu, **limits).admissible.tolist() == [[True, False]] * 2


def of_two(menu, **limits):
    return hasa.AllocationProblem.build(
        Clients([1, 1]), menu=menu, utility=hasa.utility.measured([[0, 1]] * 2), **limits
    )


@given(st.text(VISIBLE, min_size=1))
def test_two_keys_that_are_one_name_are_refused_and_the_later_never_wins(name):
    twice = {name: [1, 2], unicodedata.normalize("NFD", name) + " ": [3, 4]}
    given = {"names": ["a", "b"], "costs": {"x": [1, 2]}, "per": "client"}
    classes = {"costs": {"x": twice}, "per": "client", "device": [name, name]}
    with pytest.raises(InputError, match="row 1, resources"):
        hasa.Menu(**given | {"costs": twice})
    with pytest.raises(InputError, match="row 1, attributes"):
        hasa.Menu(**given, attributes=twice)
    with pytest.raises(InputError, match="row 1, per"):
        hasa.Menu(**given | {"costs": {name: [1, 2]}, "per": dict.fromkeys(twice, "client")})
    with pytest.raises(InputError, match="row 1, device classes of 'x'"):
        of_two(hasa.Menu(**given | classes))
    with pytest.raises(InputError, match="row 1, budget"):
        of_two(hasa.Menu(**given), budget=dict.fromkeys(twice, 1.0))


def test_budgets_named_alike_but_for_blanks_are_numbered():
    alike = [hasa.Budget([1, 1, 1], 9, name) for name in ("memory", "memory ", "memory\u00a0")]
    problem = hasa.AllocationProblem.build(
        Clients([1, 1]), widths=(0.25, 0.5, 1.0), budget=0.5,
        utility=hasa.utility.alpha_fair(), constraints=alike,
    )  # fmt: skip
    assert [row.label for row in problem.rows] == [
        f"Budget: memory {number} at most 9" for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    "value",
    [None, float("nan"), np.nan, 1.0, True, b"phone", np.datetime64("NaT"), ["phone"], "a\nb",
     "a\x00b", "a\u2028b", "phone\ud800"],
)  # fmt: skip
def test_what_is_no_name_is_refused_by_row(value):
    for column in ("names", "site"):
        with pytest.raises(InputError, match=f"row 1, column '{column}'"):
            Clients([1, 1], **{column: ["phone", value]})


# ------------------------------------------------------------------------------ keys of clients


def allowed(constraint, names=None, n_clients=3):
    """Widths that a mask leaves each client, out of 0.25, 0.5 and 1."""
    problem = hasa.AllocationProblem.build(
        Clients([100] * n_clients, names=names),
        widths=(0.25, 0.5, 1.0),
        budget=1.0,
        utility=hasa.utility.alpha_fair(),
        constraints=[constraint],
    )
    return [problem.widths[row].tolist() for row in problem.admissible]


def forbidden(widths):
    return hasa.Forbidden({client: [width] for client, width in widths.items()})


@pytest.mark.parametrize("kind", [hasa.Fixed, forbidden])
def test_a_number_that_is_another_clients_name_is_refused(kind):
    with pytest.raises(
        InputError, match=r"client 1, a row, but the client of that name is in row 0"
    ):
        allowed(kind({1: 1.0}), names=[1, 2, 3])
    with pytest.raises(InputError, match="write '3' for the name, or the row 2"):
        allowed(kind({3: 1.0}), names=[1, 2, 3])
    assert len(allowed(kind({"3": 1.0}), names=[1, 2, 3])[0]) == 3
    assert len(allowed(kind({0: 1.0}), names=["0", "1", "2"])[1]) == 3


@given(
    names=st.lists(st.integers(0, 6), unique=True, min_size=3, max_size=3),
    keys=st.lists(st.one_of(st.integers(-1, 6), st.integers(0, 6).map(str)), max_size=3),
)
def test_keys_of_clients_pin_the_client_that_they_name_or_are_refused(names, keys):
    meant = [{names.index(int(key))} if isinstance(key, str) and int(key) in names else
             {key} if isinstance(key, int) and 0 <= key < 3 and (key not in names or
                                                                 names[key] == key) else set()
             for key in dict.fromkeys(keys)]  # fmt: skip
    rows = [row for each in meant for row in each]
    if any(not each for each in meant) or len(set(rows)) < len(rows):
        with pytest.raises(InputError):
            allowed(hasa.Fixed(dict.fromkeys(keys, 0.5)), names=names)
        return
    left = allowed(hasa.Fixed(dict.fromkeys(keys, 0.5)), names=names)
    for row, widths in enumerate(left):
        assert widths == ([0.5] if row in rows else [0.25, 0.5, 1.0])


def test_two_keys_of_one_client_or_width_are_refused():
    with pytest.raises(InputError, match=r"Fixed names client '1' twice, by '1' and 0"):
        allowed(hasa.Fixed({"1": 0.25, 0: 0.5}), names=["1", "b", "c"])
    with pytest.raises(InputError, match=r"Forbidden names client 'b' twice, by 'b ' and 1"):
        allowed(hasa.Forbidden({"b ": [0.25], 1: [0.5]}), names=["a", "b", "c"])
    noisy = 0.1 + 0.2 + 0.2  # 0.5 in binary, but for the last bit
    assert {0.5: 1, np.float32(0.5): 2, noisy + 1e-16: 3}
    for kind in (hasa.Coverage, hasa.Quota):
        with pytest.raises(
            InputError, match=r"names width 0.5 twice, by 0.5 and 0.5000000000000001"
        ):
            allowed(kind({0.5: 0, 0.5000000000000001: 0}))


# -------------------------------------------------------------------- allocations and their clients


def solved(names, samples, **more):
    problem = hasa.AllocationProblem.build(
        Clients(samples, names=names),
        widths=(0.25, 0.5, 1.0),
        budget=0.6,
        utility=hasa.utility.alpha_fair([len(names) - at for at in range(len(names))]),
        **more,
    )
    return hasa.solve(problem, "highs")


@given(order=st.permutations(range(4)))
@example(order=[3, 1, 2, 0])
def test_no_switch_is_allowed_whatever_the_order_of_the_clients(order):
    names, samples = list("abcd"), [40, 30, 20, 10]
    before = solved(names, samples)
    held = dict(zip(names, before.widths.tolist(), strict=True))
    assert len(set(held.values())) > 1
    shuffled, sizes = [names[at] for at in order], [samples[at] for at in order]
    for previous in (before, held):
        after = solved(shuffled, sizes, constraints=[hasa.Switches(previous, at_most=0)])
        assert dict(zip(shuffled, after.widths.tolist(), strict=True)) == held


def test_switches_count_those_who_stayed():
    before = solved(list("abcd"), [40, 30, 20, 10])
    held = dict(zip("abcd", before.widths.tolist(), strict=True))
    after = solved(["new", "d", "a"], [5, 10, 40], constraints=[hasa.Switches(before, at_most=0)])
    assert after.widths[1:].tolist() == [held["d"], held["a"]]
    with pytest.raises(InputError, match=r"is for other clients: none of 'x', 'y' is among 'a'"):
        solved(["x", "y"], [1, 1], constraints=[hasa.Switches(before, at_most=2)])
