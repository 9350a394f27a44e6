"""The configuration file: every key, every complaint."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from guesthouse.daemon import config
from guesthouse.services.context import Config


def test_no_file_gives_the_defaults(tmp_path: Path) -> None:
    assert config.load(tmp_path / "absent.toml") == Config()


def test_every_key_is_taken(tmp_path: Path) -> None:
    values = {
        "user": "someone",
        "group": "some",
        "socket_group": "vm",
        "vnc_listen": "::1",
        "listen_tcp": "127.0.0.1:16509",
        "max_clients": 7,
        "client_requests": 3,
        "keepalive_interval": 0,
        "keepalive_count": 2,
        "log_level": "debug",
    }
    assert {*values, "qemu"} == {field.name for field in fields(Config)}
    text = "".join(f"{k} = {v if isinstance(v, int) else f'{chr(34)}{v}{chr(34)}'}\n" for k, v in values.items())
    file = tmp_path / config.NAME
    file.write_text(text + '[qemu]\nx86_64 = "/opt/qemu"\n')
    assert config.load(file) == Config(**values, qemu={"x86_64": "/opt/qemu"})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_clients = ", "Invalid value"),
        ("max_client = 3", "unknown key 'max_client'; there are user"),
        ("max_clients = 'many'", "'max_clients' is 'many', expected a whole number"),
        ("max_clients = true", "'max_clients' is True, expected a whole number"),
        ("max_clients = 0", "'max_clients' is 0, which is too small"),
        ("keepalive_count = -1", "too small"),
        ("log_level = 'loud'", "expected one of debug"),
        ("listen_tcp = '16509'", "expected ADDRESS:PORT"),
        ("qemu = {x86_64 = 'qemu'}", "path of its QEMU binary"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / config.NAME
    file.write_text(text)
    with pytest.raises(config.ConfigError, match=complaint) as caught:
        config.load(file)
    assert str(file) in str(caught.value) and caught.value.number == 33
