"""What cloud-init in a guest reads at its first boot: a CD image named "cidata" (the NoCloud data source).

Documents are written as JSON, which YAML takes, so that no value can mean more than itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guesthouse.errors import InvalidArg
from guesthouse.provision import injection, passwords

_HEADER = "#cloud-config\n"


@dataclass
class CloudInit:
    """``users`` are keys by login ("root", or "" for the image's own user); ``password`` is root's. ``disable`` keeps
    cloud-init from running at later boots. Files of the user's own stand instead of what is made here."""

    disable: bool = False
    password: str | None = field(default=None, repr=False)
    must_change: bool = False
    keys: dict[str, list[str]] = field(default_factory=dict)
    hostname: str | None = None
    user_data: str | None = None
    meta_data: str | None = None
    network_config: str | None = None

    def user_data_text(self) -> str:
        """The document user-data; a hash stands for the password."""
        config: dict[str, Any] = {}
        users: list[Any] = []
        if self.keys.get("root"):
            users = ["default", {"name": "root", "ssh_authorized_keys": self.keys["root"]}]
            config["disable_root"] = False
        if users:
            config["users"] = users
        if self.keys.get(""):
            config["ssh_authorized_keys"] = self.keys[""]
        if self.password is not None:
            config["chpasswd"] = {"list": [f"root:{passwords.hashed(self.password)}"], "expire": self.must_change}
        if self.disable:
            config["runcmd"] = [["touch", "/etc/cloud/cloud-init.disabled"]]
        return f"{_HEADER}{json.dumps(config, indent=1)}\n"

    def meta_data_text(self, instance: str) -> str:
        """The document meta-data; ``instance`` is what makes cloud-init see a new machine."""
        data = {"instance-id": instance}
        if self.hostname:
            data["local-hostname"] = self.hostname
        return json.dumps(data, indent=1) + "\n"

    def files(self, instance: str) -> dict[str, bytes]:
        """All files of the CD. Raises InvalidArg where one of the user's own cannot be read."""
        own = {"user-data": self.user_data, "meta-data": self.meta_data, "network-config": self.network_config}
        found = {"user-data": b"", "meta-data": self.meta_data_text(instance).encode()}
        if self.user_data is None:
            found["user-data"] = self.user_data_text().encode()
        for name, path in own.items():
            if path is None:
                continue
            try:
                found[name] = Path(path).read_bytes()
            except OSError as error:
                raise InvalidArg(f"cloud-init's {name} '{path}' cannot be read: {error.strerror}") from None
        return found

    def image(self, instance: str) -> str:
        """The CD image, a temporary file; its path."""
        return injection.cd_image(self.files(instance), "cidata", "cloudinit.iso")


def read_keys(path: str) -> list[str]:
    """The public keys of a file. Raises InvalidArg where it has none, or holds a private one."""
    try:
        text = Path(path).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidArg(f"the key's file '{path}' cannot be read: {why}") from None
    if "PRIVATE KEY" in text:
        raise InvalidArg(f"'{path}' is a private key: give the public one, '{path}.pub'")
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not keys:
        raise InvalidArg(f"'{path}' holds no key")
    return keys
