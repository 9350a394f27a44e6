"""Spellings of old, turned into today's before anything else looks at them."""

from __future__ import annotations

from guesthouse.cli.virt_install.options import Options, UsageError
from guesthouse.cli.virt_install.report import Report


def convert(options: Options, report: Report) -> None:
    """Rewrite ``options``. Raises UsageError where old and new contradict each other."""
    if "os-type" in options:
        report.warn("--os-type is deprecated and does nothing. Please stop using it.")
    if "ram" in options and "memory" not in options:
        options.add("memory", options.last("ram") or "")
    if "cpuset" in options:
        options.add("vcpus", f",cpuset={options.last('cpuset')}")
    _disks(options)
    _networks(options)
    _graphics(options)
    if ("noacpi" in options or "noapic" in options) and "features" not in options:
        words = [f"{name}=off" for name in ("acpi", "apic") if f"no{name}" in options]
        options.add("features", ",".join(words))
    if "init" in options:
        options.given["boot"] = [f"init={options.last('init')}", *options.all("boot")]
    if "sound" in options:
        options.given["sound"] = [value or "default" for value in options.all("sound")]
    for name, value in (("print-step", "print-xml"),):
        if name in options:
            options.add(value, options.last(name) or "all")


def _disks(options: Options) -> None:
    old = any(name in options for name in ("file", "file-size", "nonsparse"))
    if "nodisks" in options:
        if old or "disk" in options:
            raise UsageError("Cannot specify storage and use --nodisks")
        options.add("disk", "none")
        return
    if not old:
        return
    if "disk" in options:
        raise UsageError("Cannot mix --file, --nonsparse, or --file-size with --disk options.")
    files, sizes = options.all("file"), options.all("file-size")
    for index in range(max(len(files), len(sizes))):
        words = []
        if index < len(files):
            words.append(f"path={files[index]}")
        if index < len(sizes):
            words.append(f"size={sizes[index]}")
        if "nonsparse" in options:
            words.append("sparse=no")
        options.add("disk", ",".join(words))


def _networks(options: Options) -> None:
    if "nonetworks" in options:
        options.given["network"] = ["none"]
    bridges = options.all("bridge")
    networks: list[str | None] = list(options.all("network"))
    if bridges and networks:
        raise UsageError("Cannot use --bridge and --network at the same time")
    networks = networks or [f"bridge={bridge}" for bridge in bridges]
    macs = options.all("mac")
    networks += [None] * (max(len(macs), 1) - len(networks))
    found = []
    for index, text in enumerate(networks):
        words = text or "default"
        for kind in ("network", "bridge"):
            if words.startswith(f"{kind}:"):
                words = words.replace(":", "=", 1)
        if index < len(macs):
            words += f",mac={macs[index]}"
        found.append(words)
    options.given["network"] = found


def _graphics(options: Options) -> None:
    old = [name for name in ("vnc", "sdl", "nographics") if name in options]
    details = [name for name in ("vncport", "vnclisten", "keymap") if name in options]
    if "graphics" in options:
        if old or details:
            raise UsageError("Cannot mix --graphics and old style graphical options")
        return
    if len(old) > 1:
        raise UsageError("Can't specify more than one of VNC, SDL, --graphics or --nographics")
    if not old:
        return
    words = ["none" if old[0] == "nographics" else old[0]]
    for name, key in (("vnclisten", "listen"), ("vncport", "port"), ("keymap", "keymap")):
        if name in options:
            words.append(f"{key}={options.last(name)}")
    options.add("graphics", ",".join(words))
