"""What cloud-init in a guest reads at its first boot: a CD image named "cidata" (the NoCloud data source).

Documents are written as JSON, which YAML takes, so that no value can mean more than itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from guesthouse.errors import InvalidArg
from guesthouse.provision import injection, passwords

#: What NoCloud's CD is called.
LABEL = "cidata"
_HEADER = "#cloud-config\n"


@dataclass
class CloudInit:
    """``keys`` are public keys by login ("root", or "" for the image's own user), ``passwords`` likewise. ``disable``
    keeps cloud-init from running at later boots. Files of the user's own, given by their paths, stand instead of what is
    made here; ``also`` is user-data that comes besides it. ``network`` is a network configuration, version 2.
    ``documents`` are the user's own as text, by their names on the CD: user-data besides, others instead."""

    disable: bool = False
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    must_change: bool = False
    keys: dict[str, list[str]] = field(default_factory=dict)
    hostname: str | None = None
    login: str = ""
    packages: list[str] = field(default_factory=list)
    network: dict[str, Any] | None = None
    also: str | None = None
    user_data: str | None = None
    meta_data: str | None = None
    network_config: str | None = None
    vendor_data: str | None = None
    documents: dict[str, str] = field(default_factory=dict)

    def with_network(self, macs: list[str]) -> CloudInit:
        """The same with DHCP on the cards of these MAC addresses, where nothing else was said of the network."""
        said = self.network is not None or self.network_config is not None or "network-config" in self.documents
        if said or not macs:
            return self
        cards = {
            f"card{number}": {"match": {"macaddress": mac}, "dhcp4": True, "dhcp6": True, "optional": number > 0}
            for number, mac in enumerate(macs)
        }
        return replace(self, network={"version": 2, "ethernets": cards})

    def user_data_text(self) -> str:
        """The document user-data; hashes stand for the passwords."""
        config: dict[str, Any] = {}
        if self.keys.get("root"):
            config["users"] = ["default", {"name": "root", "ssh_authorized_keys": self.keys["root"]}]
            config["disable_root"] = False
        if self.keys.get(""):
            config["ssh_authorized_keys"] = self.keys[""]
        if self.passwords:
            hashes = [f"{user or self.login}:{passwords.hashed(word)}" for user, word in self.passwords.items()]
            config["chpasswd"] = {"list": hashes, "expire": self.must_change}
            if "" in self.passwords:
                config["ssh_pwauth"] = True
        if self.packages:
            config["packages"] = self.packages
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
        """All files of the CD. Raises InvalidArg where one of the user's own cannot be read, or would not be taken."""
        found = {"meta-data": self.meta_data_text(instance).encode()}
        if self.user_data is None:
            found["user-data"] = self._with_more(self.user_data_text()).encode()
        if self.network is not None:
            found["network-config"] = (json.dumps(self.network, indent=1) + "\n").encode()
        for name in ("user-data", "meta-data", "network-config", "vendor-data"):
            path = getattr(self, name.replace("-", "_"))
            if path is not None:
                found[name] = _read(name, path)
            elif name in self.documents and name != "user-data":
                found[name] = self.documents[name].encode()
        return found

    def _with_more(self, text: str) -> str:
        """``text``, and the user's own part beside it."""
        if self.also is None and "user-data" not in self.documents:
            return text
        from email.mime.multipart import MIMEMultipart
        from email.mime.text import MIMEText

        more = _read("user-data", self.also).decode() if self.also is not None else self.documents["user-data"]
        check_user_data(more)
        whole = MIMEMultipart()
        for part, name in ((text, "made"), (more, "own")):
            kind = "x-shellscript" if part.startswith("#!") else "cloud-config"
            each = MIMEText(part, kind, "us-ascii" if part.isascii() else "utf-8")
            each.add_header("Content-Disposition", "attachment", filename=name)
            # later parts win, and lists add up
            each.add_header("Merge-Type", "list(append)+dict(no_replace,recurse_list)+str()")
            whole.attach(each)
        return whole.as_string()

    def image(self, instance: str) -> str:
        """The CD image, a temporary file; its path."""
        return injection.cd_image(self.files(instance), LABEL, "cloudinit.iso")


def seed_bytes(files: dict[str, bytes]) -> bytes:
    """The CD image with ``files``."""
    return injection.cd_bytes(files, LABEL)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise InvalidArg(f"cloud-init's {name} '{path}' cannot be read: {error.strerror}") from None


def check_user_data(text: str) -> None:
    """Raises InvalidArg where cloud-init would pass ``text`` by: no script, and no cloud-config that is a mapping."""
    if text.startswith("#!"):
        return
    if not text.startswith("#cloud-config"):
        raise InvalidArg("user-data begins with '#cloud-config' or '#!', or cloud-init passes it by")
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        config = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise InvalidArg(f"user-data is no YAML: {str(error).splitlines()[0]}") from None
    if config is not None and not isinstance(config, dict):
        raise InvalidArg("user-data is no mapping of keys to values")


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
