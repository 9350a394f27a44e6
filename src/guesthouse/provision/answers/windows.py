"""Windows (Vista and later): autounattend.xml on a CD, which setup looks for on every removable medium."""

from __future__ import annotations

import base64
from typing import Any

from guesthouse.errors import ConfigUnsupported
from guesthouse.provision.answers import Answers, Script
from guesthouse.provision.osinfo import Os

_NS = "urn:schemas-microsoft-com:unattend"
_WCM = "http://schemas.microsoft.com/WMIConfig/2002/State"
# lxml calls the default namespace None, which its stubs do not know
_NAMES: Any = {None: _NS, "wcm": _WCM}
_TOKEN = "31bf3856ad364e35"
# the time zones that Windows calls otherwise, from Unicode's windowsZones for the most asked for
_ZONES = {
    "Etc/UTC": "UTC",
    "Europe/London": "GMT Standard Time",
    "Europe/Berlin": "W. Europe Standard Time",
    "Europe/Paris": "Romance Standard Time",
    "Europe/Warsaw": "Central European Standard Time",
    "Europe/Moscow": "Russian Standard Time",
    "America/New_York": "Eastern Standard Time",
    "America/Chicago": "Central Standard Time",
    "America/Denver": "Mountain Standard Time",
    "America/Los_Angeles": "Pacific Standard Time",
    "America/Sao_Paulo": "E. South America Standard Time",
    "Asia/Shanghai": "China Standard Time",
    "Asia/Tokyo": "Tokyo Standard Time",
    "Asia/Seoul": "Korea Standard Time",
    "Asia/Singapore": "Singapore Standard Time",
    "Asia/Kolkata": "India Standard Time",
    "Australia/Sydney": "AUS Eastern Standard Time",
}


def script(answers: Answers, system: Os) -> Script:
    """Raises ConfigUnsupported for systems before Vista, whose setup reads winnt.sif from a floppy."""
    if (
        system.name.startswith(("win2k3", "winxp", "winnt", "win9", "win1.", "win2.", "win3."))
        or system.name == "win2k"
    ):
        raise ConfigUnsupported(f"unattended installation of {system.name} is not supported: Vista and later are")
    return Script({"autounattend.xml": unattend(answers)}, "cdrom", "", "UNATTEND")


def unattend(a: Answers) -> bytes:
    """The file. Windows takes passwords only in a form that can be read back."""
    from lxml import etree

    root = etree.Element(f"{{{_NS}}}unattend", nsmap=_NAMES)
    arch = {"x86_64": "amd64", "i686": "x86", "aarch64": "arm64"}.get(a.arch, "amd64")
    language = a.locale.replace("_", "-")

    def part(settings: Any, name: str, values: dict[str, Any]) -> None:
        each = etree.SubElement(settings, f"{{{_NS}}}component")
        for key, value in (
            ("name", name),
            ("processorArchitecture", arch),
            ("publicKeyToken", _TOKEN),
            ("language", "neutral"),
            ("versionScope", "nonSxS"),
        ):
            each.set(key, value)
        put(each, values)

    def put(owner: Any, values: dict[str, Any]) -> None:
        for key, value in values.items():
            for inner in value if isinstance(value, list) else [value]:
                each = etree.SubElement(owner, f"{{{_NS}}}{key}")
                if isinstance(value, list):
                    each.set(f"{{{_WCM}}}action", "add")
                if isinstance(inner, dict):
                    put(each, inner)
                else:
                    each.text = str(inner)

    def phase(name: str) -> Any:
        each = etree.SubElement(root, f"{{{_NS}}}settings")
        each.set("pass", name)
        return each

    locales = {"InputLocale": language, "SystemLocale": language, "UILanguage": language, "UserLocale": language}
    first = phase("windowsPE")
    part(first, "Microsoft-Windows-International-Core-WinPE", {"SetupUILanguage": {"UILanguage": language}} | locales)
    data: dict[str, Any] = {"AcceptEula": "true", "FullName": a.realname or a.user or "Administrator"}
    if a.product_key:
        data["ProductKey"] = {"Key": a.product_key, "WillShowUI": "OnError"}
    install = {"OSImage": {"InstallTo": {"DiskID": 0, "PartitionID": 3 if a.efi else 1}}}
    part(
        first,
        "Microsoft-Windows-Setup",
        {"DiskConfiguration": _disk(a), "ImageInstall": install, "UserData": data},
    )
    special: dict[str, Any] = {"ComputerName": a.hostname[:15], "TimeZone": _ZONES.get(a.timezone, "UTC")}
    part(phase("specialize"), "Microsoft-Windows-Shell-Setup", special)
    last = phase("oobeSystem")
    part(last, "Microsoft-Windows-International-Core", locales)
    accounts: dict[str, Any] = {}
    if a.root_password or not a.user:
        accounts["AdministratorPassword"] = _secret(a.root_password or "", "AdministratorPassword")
    if a.user:
        own = {"Password": _secret(a.user_password or "", "Password"), "DisplayName": a.realname or a.user}
        own |= {"Group": "Administrators", "Name": a.user}
        accounts["LocalAccounts"] = {"LocalAccount": [own]}
    shell: dict[str, Any] = {
        "OOBE": {"HideEULAPage": "true", "HideWirelessSetupInOOBE": "true", "ProtectYourPC": 3},
        "UserAccounts": accounts,
    }
    if a.late:
        commands = [{"CommandLine": command, "Order": number} for number, command in enumerate(a.late, 1)]
        shell["FirstLogonCommands"] = {"SynchronousCommand": commands}
    part(last, "Microsoft-Windows-Shell-Setup", shell)
    return bytes(etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="utf-8"))


def _secret(password: str, name: str) -> dict[str, str]:
    return {"Value": base64.b64encode((password + name).encode("utf-16-le")).decode(), "PlainText": "false"}


def _disk(a: Answers) -> dict[str, Any]:
    if not a.efi:
        made = [{"Order": 1, "Type": "Primary", "Extend": "true"}]
        shaped = [{"Order": 1, "PartitionID": 1, "Format": "NTFS", "Active": "true"}]
    else:
        made = [
            {"Order": 1, "Type": "EFI", "Size": 260},
            {"Order": 2, "Type": "MSR", "Size": 16},
            {"Order": 3, "Type": "Primary", "Extend": "true"},
        ]
        shaped = [
            {"Order": 1, "PartitionID": 1, "Format": "FAT32"},
            {"Order": 2, "PartitionID": 2},
            {"Order": 3, "PartitionID": 3, "Format": "NTFS"},
        ]
    parts = {"CreatePartitions": {"CreatePartition": made}, "ModifyPartitions": {"ModifyPartition": shaped}}
    return {"Disk": [{"DiskID": 0, "WillWipeDisk": "true"} | parts], "WillShowUI": "OnError"}
