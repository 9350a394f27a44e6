"""<cpu> with both daemons: what QEMU would be started with, what a started guest has then, and what does not start."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guesthouse import client
from guesthouse.host.x86 import MODELS
from support.guesthoused import Guesthoused
from support.libvirtd import Libvirtd

Daemon = Libvirtd | Guesthoused
GUEST = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>0a5ced00-{number:04}-4000-8000-0000000000c9</uuid>
  <memory unit='MiB'>64</memory><vcpu>{count}</vcpu>
  <os><type arch='{arch}' machine='pc'>hvm</type></os>
  {cpu}
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/>
    <memballoon model='none'/></devices>
</domain>
"""


def model(name: str, features: str = "", more: str = "", fallback: str = "") -> str:
    """A <cpu> by a model; features are "policy:name"."""
    named = "".join("<feature policy='{}' name='{}'/>".format(*word.split(":")) for word in features.split())
    allow = f" fallback='{fallback}'" if fallback else ""
    return f"<cpu mode='custom' {more}><model{allow}>{name}</model>{named}</cpu>"


#: What is only looked at: <cpu> by name.
LOOKED_AT = {
    "nothing": "",
    "topology": "<cpu><topology sockets='1' dies='1' cores='1' threads='2'/></cpu>",
    "host-model": "<cpu mode='host-model'/>",
    "host-model-strict": "<cpu mode='host-model' check='full'/>",
    "host-model-more": "<cpu mode='host-model'><feature policy='disable' name='avx'/><feature policy='optional' "
    "name='vmx'/><feature policy='require' name='sse2'/><feature policy='force' name='xtpr'/></cpu>",
    "host-model-vendor": "<cpu mode='host-model'><model vendor_id='GenuineIntel'/></cpu>",
    "host-model-fallback": "<cpu mode='host-model'><model fallback='forbid'/></cpu>",
    "passthrough": "<cpu mode='host-passthrough'/>",
    "maximum": "<cpu mode='maximum'/>",
    "maximum-stays": "<cpu mode='maximum' migratable='off' check='partial'><feature policy='disable' name='la57'/>"
    "<feature policy='optional' name='sse'/><feature policy='forbid' name='avx'/><cache mode='disable'/></cpu>",
    "maximum-off": "<cpu mode='maximum'><feature policy='disable' name='osxsave'/><feature policy='disable' "
    "name='mbm_total'/><feature policy='disable' name='xfd'/><cache mode='passthrough'/></cpu>",
    "minimum": model("Penryn", "require:aes", "match='minimum'"),
    "minimum-vendor": "<cpu match='minimum'><model vendor_id='TheirsAndOur'>core2duo</model></cpu>",
    "optional": model("Westmere", "optional:avx optional:vmx optional:hle"),
    "optional-off": model("Westmere", "optional:nope"),
    "removed": model("EPYC"),
    "removed-wanted": model("EPYC", "require:monitor"),
    "removed-icelake": model("Icelake-Server", more="check='partial'"),
    "unknown-to-qemu": model("Penryn", "disable:cmt forbid:osxsave disable:mbm_local require:avx"),
    "nowhere": model("Penryn", "disable:nope"),
    "nobody": model("Nope"),
    "versioned": model("EPYC-v2"),
    "forbid": model("cpu64-rhel6", fallback="forbid"),
    "translated": model("cpu64-rhel6", "require:avx disable:lm"),
    "translated-old": model("cpu64-rhel5", more="check='partial'"),
    "partial": model("Penryn", more="check='partial'"),
    "partial-missing": model("Haswell", more="check='partial'"),
    "partial-spared": model(
        "Haswell", "disable:hle disable:rtm disable:x2apic disable:tsc-deadline", "check='partial'"
    ),
    "partial-forbid": model("Penryn", "forbid:avx", "check='partial'"),
    "partial-forbid-model": model("Penryn", "forbid:sse2", "check='full'"),
    "partial-forbid-named": model("Penryn", "forbid:clwb", "check='full'"),
    "strict": model("Penryn", more="match='strict' check='partial'"),
    "strict-unchecked": model("Penryn", more="match='strict'"),
    "vendor": "<cpu check='partial'><model>Penryn</model><vendor>Intel</vendor></cpu>",
    "vendor-unchecked": "<cpu><model>Penryn</model><vendor>Intel</vendor></cpu>",
    "bits": "<cpu mode='maximum'><maxphysaddr mode='emulate' bits='42'/></cpu>",
    "bits-passthrough": "<cpu mode='maximum'><cache level='3' mode='emulate'/><maxphysaddr mode='passthrough'/></cpu>",
}
#: What is started: each shows another way that QEMU's processor and the document's come apart.
STARTED = {
    "start-default": "",
    "start-host-model": "<cpu mode='host-model'/>",
    "start-less": model("Haswell-noTSX", "disable:avx optional:avx512f force:vmx"),
    "start-full": model("qemu64", more="check='full'"),
    "start-missing": model("Nehalem", "require:vmx", "check='full'"),
    "start-invtsc": model("Penryn", "require:invtsc"),
}
"""What the started ones are asked for."""
SHOWN = ("", "--inactive", "--migratable", "--update-cpu", "--inactive --update-cpu")


class Place:
    """A daemon, and a folder with the documents."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.folder = daemon.root / "cpus"
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        for number, (name, cpu) in enumerate({**LOOKED_AT, **STARTED}.items()):
            count = 2 if "threads='2'" in cpu else 1
            text = GUEST.format(name=name, number=number, count=count, arch="x86_64", cpu=cpu)
            (self.folder / name).write_text(text)

    def ask(self, lines: list[str]) -> dict[str, str]:
        """Line -> what it prints, all in one shell."""
        asked = [f"cd {self.folder}", *lines]
        typed = "".join(f"{line}\necho ===\n" for line in asked)
        argv = self.daemon.ns.command(["/usr/bin/virsh", "-q", "-c", self.daemon.uri])
        run = subprocess.run(
            argv, input=typed, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False
        )
        told = run.stdout.split("===\n")
        assert len(told) == len(asked) + 1, run.stdout[-500:]
        plain = [re.sub(r"^(===)?virsh # .*\n?", "", text, flags=re.MULTILINE) for text in told]
        return dict(zip(asked[1:], plain[1:-1], strict=True))

    def clear(self) -> None:
        for name in STARTED:
            self.daemon.run("destroy", name)
            self.daemon.run("undefine", name, "--managed-save")


def told(line: str, text: str) -> str:
    """Of a command line the words on processors, of a document the <cpu>; an error as it is."""
    if line.startswith("domxml-to-native") and "error:" not in text:
        words = re.findall(r"-(?:cpu|smp) \S+", text)
        return "\n".join(word.replace(",dies=1", "") for word in words)
    found = re.search(r"<cpu.*?(?:</cpu>|/>)", text, re.DOTALL)
    return found[0] if found is not None else text


@pytest.fixture
def places(c_libvirtd: Libvirtd, guesthoused: Guesthoused) -> Iterator[tuple[Place, Place]]:
    both = Place(c_libvirtd), Place(guesthoused)
    yield both
    for place in both:
        place.clear()


def test_the_same_processors(places: tuple[Place, Place], tmp_path: Path) -> None:
    lines = [f"domxml-to-native qemu-argv {name}" for name in (*LOOKED_AT, *STARTED)]
    for name in STARTED:
        lines += [f"define {name}", f"start {name} --paused"]
        lines += [f"dumpxml {name} {shown}" for shown in SHOWN]
    saved = "start-less"
    lines += [f"managedsave {saved}", f"managedsave-dumpxml {saved}"]
    lines += [f"start {saved} --paused ", f"dumpxml {saved}  ", f"dumpxml {saved} --migratable  "]
    theirs, ours = (place.ask(lines) for place in places)
    different = [
        f"{line}\n{told(line, text)}\n--- ours:\n{told(line, ours[line])}"
        for line, text in theirs.items()
        if told(line, text) != told(line, ours[line])
    ]
    assert not different, "\n\n".join(different)


def test_models_mean_the_same(c_libvirtd: Libvirtd) -> None:
    """libvirt's daemon, asked for each model with all that it has."""
    with client.connect(c_libvirtd.uri) as conn:
        for name, known in MODELS.items():
            xml = f"<cpu><arch>x86_64</arch><model>{name}</model></cpu>"
            found = conn.call("connect_baseline_cpu", xmlCPUs=[xml], flags=1).cpu
            policies = {feature: policy for policy, feature in re.findall("policy='(.*?)' name='(.*?)'", found)}
            assert {feature for feature, policy in policies.items() if policy == "require"} == known.features, name
            if known.for_guests:  # else another is named, without what the one that was asked for has not
                off = {feature for feature, policy in policies.items() if policy == "disable"}
                assert off == set(known.removed), name
