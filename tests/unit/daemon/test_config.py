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
        "socket_mode": "0700",
        "listen_tcp": "127.0.0.1:16509",
        "listen_tls": "[::]:16514",
        "auth_unix_rw": "sasl",
        "auth_unix_ro": "sasl",
        "auth_tcp": "none",
        "auth_tls": "sasl",
        "tls_ca": "/ca.pem",
        "tls_cert": "/cert.pem",
        "tls_key": "/key.pem",
        "tls_crl": "/crl.pem",
        "vnc_auto_unix_socket": True,
        "spice_auto_unix_socket": True,
        "vnc_tls": True,
        "vnc_tls_x509_cert_dir": "/vnc",
        "vnc_tls_x509_verify": True,
        "spice_tls": True,
        "spice_tls_x509_cert_dir": "/spice",
        "chardev_tls": True,
        "chardev_tls_x509_cert_dir": "/chardev",
        "max_clients": 7,
        "max_anonymous_clients": 2,
        "client_requests": 3,
        "keepalive_interval": 0,
        "keepalive_count": 2,
        "log_level": "debug",
    }
    assert {*values, "qemu", "tls_allowed", "access"} == {field.name for field in fields(Config)}
    text = "".join(
        f"{k} = {str(v).lower() if isinstance(v, int) else f'{chr(34)}{v}{chr(34)}'}\n" for k, v in values.items()
    )
    file = tmp_path / config.NAME
    text += "tls_allowed = ['CN=alice']\n"
    file.write_text(text + '[qemu]\nx86_64 = "/opt/qemu"\n[[access]]\nwho = "user:root"\nmay = "*"\n')
    rows = [{"who": "user:root", "may": "*"}]
    assert config.load(file) == Config(**values, qemu={"x86_64": "/opt/qemu"}, tls_allowed=["CN=alice"], access=rows)


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
        ("listen_tls = '16514'", "expected ADDRESS:PORT"),
        ("auth_tcp = 'ldap'", "expected one of none, sasl"),
        ("tls_allowed = [3]", "a list of certificates' names"),
        ("tls_allowed = 'CN=alice'", "expected a list"),
        ("socket_mode = '0888'", "a mode in octal digits"),
        ("socket_mode = '0777'", "lets everybody in, which needs"),
        ("access = ['root']", "row 1 needs the keys 'who' and 'may'"),
        ("access = [{who = 'user:root'}]", "row 1 needs the keys"),
        ("access = [{who = 'user:root', may = 'domain:fly'}]", "there is no permission 'domain:fly'"),
        ("access = [{who = 'root', may = 'domain:start'}]", "who is 'root'. expected user:"),
        ("access = [{who = 'user:', may = 'domain:start'}]", "who is 'user:'. expected user:"),
        ("access = [{who = [], may = 'domain:start'}]", "expected a text or a list of texts"),
        ("qemu = {x86_64 = 'qemu'}", "path of its QEMU binary"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / config.NAME
    file.write_text(text)
    with pytest.raises(config.ConfigError, match=complaint) as caught:
        config.load(file)
    assert str(file) in str(caught.value) and caught.value.number == 33
