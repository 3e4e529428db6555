"""Menus from delimited text: what each column means, and what is refused, with its line."""

from __future__ import annotations

import io

import pytest

from hasa_opt import AllocationProblem, Clients, Menu, utility
from hasa_opt.errors import InputError

FLEET = Clients([10, 20, 30], names=["a", "b", "c"], device=["old", "new", "old"])
PLAIN = """option,width,epochs,per_sample:kflops,per_client:bytes
skip,0,0,0,0
narrow,0.5,1,25,300
wide,1,2,100,1200
"""


def read(text: str, clients: Clients = FLEET, **options) -> Menu:
    return Menu.read_csv(io.StringIO(text), clients, **options)


def tables(menu: Menu, clients: Clients = FLEET) -> AllocationProblem:
    worth = utility.measured([[0.0] * len(menu)] * len(clients))
    return AllocationProblem.build(clients, menu=menu, utility=worth)


def test_one_menu_for_all():
    menu = read(PLAIN, full="wide")
    assert menu.names == ("skip", "narrow", "wide")
    assert {name: values.tolist() for name, values in menu.attributes.items()} == {
        "width": [0, 0.5, 1],
        "epochs": [0, 1, 2],
    }
    built = tables(menu)
    assert built.resources["kflops"].tolist() == [[0, 250, 1000], [0, 500, 2000], [0, 750, 3000]]
    assert built.resources["bytes"].tolist() == [[0, 300, 1200]] * 3
    assert built.admissible.all()


def test_rows_by_client_in_any_order():
    menu = read("client,option,per_client:s,rank\nc,slow,5,4\nb,fast,2,8\na,slow,7,4\nc,fast,1,8\n")
    built = tables(menu)
    assert menu.names == ("slow", "fast")
    assert built.resources["s"].tolist() == [[7, 0], [0, 2], [5, 1]]
    assert built.admissible.tolist() == [[True, False], [False, True], [True, True]]
    turned = Clients([1, 1, 1], names=["c", "b", "a"])
    assert tables(menu, turned).resources["s"].tolist() == [[5, 1], [0, 2], [7, 0]]


def test_rows_by_device_class_are_joined_with_the_clients():
    menu = read(
        "device,option,per_sample:s\nnew,slow,3\nnew,fast,1\nold,slow,9\nvery old,slow,20\n"
    )
    built = tables(menu)
    assert built.resources["s"].tolist() == [[90, 0], [60, 20], [270, 0]]
    assert built.admissible.tolist() == [[True, False], [True, True], [True, False]]


@pytest.mark.filterwarnings("ignore:.*was read with")
def test_other_delimiters_with_decimal_commas():
    menu = read(PLAIN.replace(",", ";").replace("0.5", "0,5"))
    assert menu.attributes["width"].tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("option,per_client:s\n", "holds no option"),
        ("name,per_client:s\na,1\n", "no column 'option'"),
        ("option,width\na,1\n", "no column of costs.*per_client:joules"),
        ("option,cost:s\na,1\n", "column 'cost:s' is not known: costs are per_sample:RESOURCE or"),
        ("option,per_client:\na,1\n", "column 'per_client:' names no resource"),
        ("option,per_client:s,per_sample:s\na,1,2\n", "costs 's' a second time"),
        ("option,s,per_client:s\na,1,2\n", "'s' and 'per_client:s' have one name"),
        ("option,client,device,per_client:s\na,a,old,2\n", "leave one out"),
        (
            "option,per_client:s\na,1\nb,2.5\n",
            "line 3, column 'per_client:s': '2.5' is",
        ),
        ("option,per_client:s\na,\n", "line 2, column 'per_client:s': '' is not a whole"),
        ("option,per_client:s\na,-1\n", "line 2, column 'per_client:s': -1 is negative"),
        (f"option,per_client:s\na,{2**62}\n", "line 2.*exceeds"),
        ("option,per_client:s\n,1\n", "line 2, column 'option': empty"),
        ("option,per_client:s\na,1\nb,1\n a ,2\n", r"line 4, column 'option'.*stands on line 2"),
        ("client,option,per_client:s\na,x,1\na,x,1\n", "line 3.*'x' of 'a' already.*line 2"),
        (
            "option,width,per_client:s\na,1.5,1\n",
            r"line 2, column 'width': 1.5 must lie in",
        ),
        ("option,rank,per_client:s\na,nan,1\n", "line 2, column 'rank': 'nan' is not a finite"),
        ("option,rank,per_client:s\na,four,1\n", "line 2, column 'rank': 'four' is not a number"),
        (
            "client,option,rank,per_client:s\na,x,1,1\nb,x,2,1\nc,x,1,1\n",
            "line 3, column 'rank': 2 of option 'x' contradicts 1 on line 2",
        ),
        ("client,option,per_client:s\na,x,1\nz,x,1\n", "line 3, column 'client': 'z' is no client"),
        ("client,option,per_client:s\na,x,1\nb,x,1\n", "no option for 'c'"),
        ("device,option,per_client:s\nnew,x,1\n", r"no option for 'a', a device of class 'old'"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line(text, words):
    with pytest.raises(InputError, match=words):
        read(text)


def test_what_does_not_fit_the_clients():
    with pytest.raises(InputError, match="no client says its own: add a column 'device'"):
        read("device,option,per_client:s\nnew,x,1\n", Clients([1, 2]))
    with pytest.raises(InputError, match="full='huge' is not an option"):
        read(PLAIN, full="huge")
    with pytest.raises(InputError, match=r"full='fast' is no option of 'a', 'c'"):
        read("device,option,per_sample:s\nnew,fast,3\nnew,x,1\nold,x,9\n", full="fast")
