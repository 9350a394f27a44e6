"""The error table against libvirt's numbers, and the way over the wire and back."""

from __future__ import annotations

import json
import pickle

import pytest

from guesthouse import errors
from support.reference import REFERENCE, needs_reference


def classes() -> list[type[errors.GuesthouseError]]:
    return sorted(set(errors._BY_CODE.values()), key=lambda cls: cls.code)


def test_each_code_has_one_class() -> None:
    codes = [cls.code for cls in classes()]
    assert len(codes) == len(set(codes)) == len(errors._BY_CODE)


@needs_reference
def test_numbers_are_libvirts() -> None:
    enums = json.loads((REFERENCE / "constants.json").read_text())["enums"]
    numbers = {name.replace("_", "").lower(): value for name, value in enums["virErrorNumber"].items()}
    other = {
        "nostoragepool": "nostoragepool",
        "systemfailure": "systemerror",
        "rpcerror": "rpc",
        "xmlerror": "xmlerror",
    }
    for cls in classes():
        name = cls.__name__.lower()
        assert numbers["virerr" + other.get(name, name)] == cls.code, cls
    domains = enums["virErrorDomain"]
    for domain in errors.Domain:
        assert domains[f"VIR_FROM_{domain.name}"] == domain


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_wire_and_back(cls: type[errors.GuesthouseError]) -> None:
    error = cls("the detail")
    assert str(error).startswith(cls.prefix) and "the detail" in str(error)
    again = errors.from_wire(error.number, error.domain, error.message, error.level, error.int1, error.int2)
    assert type(again) is cls
    assert (str(again), again.domain, again.detail) == (str(error), error.domain, error.detail)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(cls()) == cls.bare


def test_unknown_code_keeps_its_number_and_text() -> None:
    error = errors.from_wire(9999, 7, "what is this")
    assert isinstance(error, errors.UnknownError)
    assert (error.number, error.domain, str(error)) == (9999, 7, "what is this")


def test_system_failure_carries_errno() -> None:
    error = errors.SystemFailure.from_os(FileNotFoundError(2, "No such file or directory"), "cannot open file '/x'")
    assert (str(error), error.int1) == ("cannot open file '/x': No such file or directory", 2)
