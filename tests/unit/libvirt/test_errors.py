"""Errors as programs see them: getters, the thread's last one, handlers, standard error."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from guesthouse import libvirt


@pytest.fixture(autouse=True)
def no_handler() -> Iterator[None]:
    yield
    libvirt.registerErrorHandler(None, None)
    libvirt.virResetLastError()


def test_an_error_tells_all_of_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with libvirt.open("test:///default") as conn, pytest.raises(libvirt.libvirtError) as caught:
        conn.lookupByUUIDString("nonsense")
    error = caught.value
    assert str(error) == error.get_error_message() == "Invalid UUID"
    assert (error.get_error_code(), error.get_error_domain(), error.get_error_level()) == (8, 20, 2)
    assert (error.get_str1(), error.get_str2(), error.get_str3()) == ("virDomainLookupByUUIDString", "uuidstr", None)
    assert (error.get_int1(), error.get_int2()) == (0, 0)
    assert libvirt.virGetLastError() == error.err
    assert (libvirt.virGetLastErrorCode(), libvirt.virGetLastErrorDomain()) == (8, 20)
    assert capsys.readouterr().err == "libvirt: Domain Config error : Invalid UUID\n"


def test_the_last_error_is_the_threads() -> None:
    libvirt.registerErrorHandler(lambda *_: None, "")
    with pytest.raises(libvirt.libvirtError):
        libvirt.open("nonsense")
    others: list[object] = []
    thread = threading.Thread(target=lambda: others.append(libvirt.virGetLastErrorMessage()))
    thread.start()
    thread.join()
    assert others == ["no error"]
    assert libvirt.virGetLastErrorMessage().endswith("'nonsense' does not include a driver name")
    libvirt.virResetLastError()
    assert libvirt.libvirtError("own words").args == ("own words",)
    assert libvirt.libvirtError("own words").get_error_code() is None


def test_a_handler_hears_of_errors_instead(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[object, object]] = []
    assert libvirt.registerErrorHandler(lambda *words: heard.append(words), "ctx") == 1
    with pytest.raises(libvirt.libvirtError) as caught:
        libvirt.open("nonsense")
    assert heard == [("ctx", caught.value.err)]
    assert capsys.readouterr().err == ""
