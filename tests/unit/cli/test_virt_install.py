"""virt-install's command line: options, sub-options, and what the families make of them."""

from __future__ import annotations

import signal

import pytest

from guesthouse.cli.virt_install import device_families, old
from guesthouse.cli.virt_install.families import FAMILIES
from guesthouse.cli.virt_install.interrupts import Gate
from guesthouse.cli.virt_install.options import FLAG, OPTIONS, UsageError, parse
from guesthouse.cli.virt_install.program import main
from guesthouse.cli.virt_install.report import Report
from guesthouse.cli.virt_install.suboptions import Word, split, words_of
from guesthouse.client.offline import OfflineConnect
from guesthouse.model.domain import Domain
from guesthouse.provision.request import Request


def request_of(*pairs: tuple[str, str]) -> Request:
    """A request to which the families of ``pairs`` (name, text) were applied."""
    request = Request(Domain(type="qemu"))
    for name, text in pairs:
        family = FAMILIES[name]
        family.apply(request, family.words(text), text)
    return request


# -- options


@pytest.mark.parametrize(
    "argv",
    [
        ["--name", "demo", "--memory", "500"],
        ["--name=demo", "--memory=500"],
        ["-n", "demo", "--desc", "x", "--memory", "500"],
        ["-ndemo", "--memory", "500"],
    ],
)
def test_spellings_of_an_option(argv: list[str]) -> None:
    options = parse(argv)
    assert options.last("name") == "demo"
    assert options.last("memory") == "500"


def test_repeated_options_keep_their_order() -> None:
    assert parse(["--disk", "size=1", "--disk=none", "--disk", "x"]).all("disk") == ["size=1", "none", "x"]


def test_values_that_may_be_absent() -> None:
    assert parse(["--print-xml"]).last("print-xml") == "all"
    assert parse(["--print-xml=1"]).last("print-xml") == "1"
    assert parse(["--print-xml", "2", "--wait", "--import"]).last("print-xml") == "2"
    assert parse(["--wait", "--import"]).last("wait") == "-1"
    assert parse(["--wait", "-1"]).last("wait") == "-1"


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--naem", "x"], "--naem", "--name"),
        (["--os-varient", "x"], "--os-varient", "--os-variant"),
        (["--no", "x"], "ambiguous", ""),
        (["--name"], "expected one argument", ""),
        (["--import=yes"], "takes no value", ""),
        (["word"], "unrecognized arguments: word", ""),
        (["-Z"], "unrecognized arguments: -Z", ""),
    ],
)
def test_wrong_options(argv: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_every_option_has_one_row() -> None:
    names = [name for option in OPTIONS for name in option.names]
    assert len(names) == len(set(names))


# -- sub-options


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("size=20,bus=virtio", ["size=20", "bus=virtio"]),
        (r"path=/a\,b,size=1", ["path=/a,b", "size=1"]),
        ('path="/a,b",size=1', ["path=/a,b", "size=1"]),
        ("title='it, that',uuid=x", ["title=it, that", "uuid=x"]),
        ("", [""]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_splitting(text: str, words: list[str]) -> None:
    assert split(text) == words


def test_an_open_quotation_is_an_error() -> None:
    with pytest.raises(UsageError, match="no closing quotation"):
        split('path="/a')


def test_first_words_and_commas() -> None:
    assert words_of("disk", "/x.img,size=1", "path") == [Word("path", "/x.img"), Word("size", "1")]
    assert words_of("boot", "hd,menu=on") == [Word("hd", None), Word("menu", "on")]
    family = FAMILIES["boot"]
    words = family.words("kernel_args=console=ttyAMA0,1234 rw root=/dev/vda3,kernel=/k")
    assert words == {"kernel_args": "console=ttyAMA0,1234 rw root=/dev/vda3", "kernel": "/k"}
    assert FAMILIES["vcpus"].words("4,cpuset=1,3-5") == {"vcpu": "4", "cpuset": "1,3-5"}


def test_the_last_of_a_repeated_key_counts() -> None:
    assert FAMILIES["vcpus"].words("sockets=2,threads=2,sockets=1")["sockets"] == "1"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "location"])
def test_listings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    spelled = next(option.name for option in OPTIONS if name in option.names)
    assert main([f"--{spelled}=?"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"--{spelled} options:"
    assert {line.strip() for line in lines[1:]} == set(FAMILIES[name].keys())
    assert main([f"--{spelled}", "help"]) == 0


def test_help_names_every_option_that_has_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for option in OPTIONS:
        assert not option.help or f"--{option.name}" in text
        assert not (option.family and option.kind == FLAG)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("graphics", "vnc,pasword=x", r"Unknown --graphics options: \['pasword'\]"),
        ("graphics", "vcn", "expected one of: sdl, vnc"),
        ("network", "bridge=br0,model.typ=virtio", "Unknown --network"),
        ("network", "bridge=br0,mac=xyz", "MAC address"),
        ("vcpus", "many", "not a number"),
        ("memory", "2G", "not a number of MiB"),
        ("memory", "500,slots=3", "Unknown --memory"),
        ("features", "acpi=perhaps", "no switch"),
        ("events", "on_reboot=explode", "expected one of: destroy"),
        ("events", "name=x", "Unknown --events"),
        ("boot", "kernel", "needs a value"),
        ("controller", "pci,address=nowhere", "no PCI address"),
    ],
)
def test_wrong_sub_options(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_of((name, text))


def test_an_unknown_key_comes_with_its_neighbours() -> None:
    with pytest.raises(UsageError) as caught:
        request_of(("network", "bridge=br0,portgrup=x"))
    assert "portgroup" in caught.value.hint


# -- families


def test_memory_as_virt_install_counts_it() -> None:
    domain = request_of(("memory", "500")).domain
    assert (domain.memory, domain.current_memory) == (500 * 1024, 500 * 1024)
    domain = request_of(("memory", "512,maxmemory=1024")).domain
    assert (domain.memory, domain.current_memory) == (1024 * 1024, 512 * 1024)
    domain = request_of(("memory", "memory=1024,currentMemory=512")).domain
    assert (domain.memory, domain.current_memory) == (1024 * 1024, 512 * 1024)


def test_processors() -> None:
    vcpu = request_of(("vcpus", "2,maxvcpus=4,cpuset=0-1")).domain.vcpu
    assert vcpu is not None
    assert (vcpu.current, vcpu.value, vcpu.cpuset) == (2, 4, "0-1")
    cpu = request_of(("vcpus", "4,sockets=2,cores=2")).domain.cpu
    assert cpu is not None and cpu.topology is not None
    assert (cpu.topology.sockets, cpu.topology.cores) == (2, 2)


def test_a_vnc_display() -> None:
    display = request_of(("graphics", "vnc,password=XYZ12345,listen=0.0.0.0,port=5901")).domain.dev.graphics[0]
    assert (display.type, display.passwd, display.listen, display.port) == ("vnc", "XYZ12345", "0.0.0.0", 5901)
    assert display.listens == []


def test_networks_say_what_kind_they_are() -> None:
    request = request_of(
        ("network", "bridge=br0,model=virtio"),
        ("network", "network=default,mac=52:54:00:00:00:01"),
        ("network", "network:default"),
        ("network", "user"),
        ("network", "type=direct,source=eth0,source_mode=bridge"),
    )
    found = [
        (nic.type, nic.source and (nic.source.bridge or nic.source.network or nic.source.dev))
        for nic in request.domain.dev.interfaces
    ]
    assert found == [
        ("bridge", "br0"),
        ("network", "default"),
        ("network", "default"),
        ("user", None),
        ("direct", "eth0"),
    ]
    assert request.domain.dev.interfaces[0].model is not None
    assert request.domain.dev.interfaces[1].mac_address == "52:54:00:00:00:01"
    last = request.domain.dev.interfaces[4].source
    assert last is not None and last.mode == "bridge"


def test_boot_order_and_firmware() -> None:
    request = request_of(("boot", "uefi,cdrom,fd,hd,network,menu=on,firmware.secure-boot=yes,useserial=on"))
    assert request.uefi is True
    assert [boot.dev for boot in request.boot.boots] == ["cdrom", "fd", "hd", "network"]
    assert request.boot.bootmenu is not None and request.boot.bootmenu.enable is True
    assert request.boot.bios is not None and request.boot.bios.use_serial is True
    firmware = request.boot.firmware_features
    assert firmware is not None
    assert [(f.name, f.enabled) for f in firmware.features] == [("secure-boot", True)]


def test_cpus() -> None:
    request = request_of(("cpu", "host-model,+vmx,-svm,require=aes"))
    cpu = request.domain.cpu
    assert request.cpu_mode == "host-model" and cpu is not None
    assert [(f.name, f.policy) for f in cpu.features] == [("vmx", "force"), ("aes", "require"), ("svm", "disable")]
    cpu = request_of(("cpu", "qemu64,topology.cores=2")).domain.cpu
    assert cpu is not None and cpu.model is not None and cpu.mode == "custom" and cpu.model.name == "qemu64"


def test_serial_ports_and_channels() -> None:
    dev = request_of(
        ("serial", "tcp,host=:2222,mode=bind,protocol=telnet"),
        ("serial", "file,path=/tmp/log"),
        ("channel", "unix,target_type=virtio,name=org.example.0"),
        ("console", "pty,target.type=virtio"),
    ).domain.dev
    tcp = dev.serials[0].source
    assert tcp is not None and (tcp.host, tcp.service, tcp.mode) == ("127.0.0.1", "2222", "bind")
    assert dev.serials[0].protocol is not None and dev.serials[0].protocol.type == "telnet"
    assert dev.serials[1].source is not None and dev.serials[1].source.path == "/tmp/log"
    assert dev.channels[0].target is not None and dev.channels[0].target.name == "org.example.0"
    assert dev.consoles[0].target is not None and dev.consoles[0].target.type == "virtio"


@pytest.mark.parametrize(
    "name", ["graphics", "network", "sound", "channel", "console", "rng", "tpm", "redirdev", "input"]
)
def test_none_leaves_the_default_out(name: str) -> None:
    request = request_of((name, "none"))
    assert name in request.without
    assert request.domain.dev.to_xml() == "<devices/>\n"


def test_disks() -> None:
    request = Request(Domain(type="qemu"))
    text = "size=20,bus=scsi,cache=none,format=raw,sparse=no,serial=abc,boot_order=1"
    found = device_families.disk(request, FAMILIES["disk"].words(text), text)
    assert found is not None
    disk, wish = found
    assert (wish.size, wish.sparse, wish.format) == (20.0, False, "raw")
    assert disk.bus == "scsi" and disk.serial == "abc"
    assert disk.driver is not None and disk.driver.cache == "none"
    assert disk.boot is not None and disk.boot.order == 1
    assert device_families.disk(request, {}, "none") is None


def test_clock_and_features() -> None:
    request = request_of(
        ("clock", "offset=localtime,hpet_present=no,rtc_tickpolicy=merge"),
        ("features", "acpi=off,apic.eoi=on,kvm_hidden=on,hyperv.spinlocks.state=on,hyperv.spinlocks.retries=8191"),
        ("pm", "suspend_to_mem.enabled=on"),
    )
    clock, features, pm = request.domain.clock, request.domain.features, request.domain.pm
    assert clock is not None and features is not None and pm is not None
    assert [(t.name, t.present, t.tickpolicy) for t in clock.timers] == [("rtc", None, "merge"), ("hpet", False, None)]
    assert features.acpi is False and "acpi" in request.without
    assert features.kvm is not None and features.kvm.hidden is not None and features.kvm.hidden.state is True
    assert features.hyperv is not None and features.hyperv.spinlocks is not None
    assert features.hyperv.spinlocks.retries == 8191
    assert pm.suspend_to_mem is not None and pm.suspend_to_mem.enabled is True


def test_no_daemon_is_asked_for_a_line_that_means_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("guesthouse.client.connect", lambda uri: pytest.fail("a daemon was asked"))
    for line in ("--disk sise=20", "--graphics vcn", "--shmem x,foo=2", "--check foo=off", "--osinfo detect=maybe"):
        assert main(line.split()) == 1
        assert capsys.readouterr().err.startswith("ERROR    ")


# -- interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_wait_for_the_end_of_a_step(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    done = []
    with pytest.raises(KeyboardInterrupt), Gate() as gate:
        signal.raise_signal(number)
        done.append("the step")
        gate.check()
        done.append("the next")
    assert done == ["the step"]
    with pytest.raises(KeyboardInterrupt), Gate():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


class Interrupted(OfflineConnect):
    """A daemon during whose ``step`` the user presses Ctrl-C."""

    def __init__(self, step: str) -> None:
        state = (
            "<node><pool type='dir'><name>default</name><available>99999999999</available>"
            "<target><path>/images</path></target></pool></node>"
        )
        super().__init__("qemu:///system", state, CAPABILITIES, None)
        self.step = step

    def call(self, name: str, /, **args: object) -> object:
        if name == self.step:
            signal.raise_signal(signal.SIGINT)
        if name == "domain_create_xml":
            return self._do_domain_define_xml(args["xml_desc"])  # type: ignore[arg-type]
        if name in ("domain_destroy", "domain_undefine"):
            self._domains.pop(args["dom"].name, None)  # type: ignore[attr-defined]
            return None
        if name == "storage_vol_delete":
            pool = self._pools["default"]
            pool.remove(pool.find("volume"))
            return None
        return super().call(name, **args)


CAPABILITIES = """<capabilities><host><cpu><arch>x86_64</arch></cpu></host>
<guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/q</emulator><machine>pc</machine><domain type='qemu'/></arch>
<features><acpi/><apic/></features></guest></capabilities>"""


@pytest.mark.parametrize("step", ["storage_vol_create_xml", "domain_create_xml", "domain_define_xml"])
def test_ctrl_c_in_any_step_takes_everything_back(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conn = Interrupted(step)
    monkeypatch.setattr("guesthouse.client.connect", lambda uri: conn)
    line = "--name demo --memory 100 --disk size=1 --disk size=2 --pxe --osinfo generic --network user --noautoconsole"
    assert main(line.split()) == 1
    shown = capsys.readouterr()
    assert "Domain install interrupted." in shown.err
    assert "Removing disk 'demo.qcow2'" in shown.out
    assert conn.list_all_domains() == []
    assert conn.storage_pool_lookup_by_name("default").list_all_volumes() == []


# -- spellings of old


def test_old_spellings() -> None:
    options = parse(
        [
            "-r",
            "512",
            "--vnc",
            "--vncport",
            "5901",
            "-b",
            "br0",
            "-m",
            "52:54:00:00:00:01",
            "-f",
            "/x.img",
            "-s",
            "3",
            "--noacpi",
        ]
    )
    old.convert(options, Report(quiet=True))
    assert options.last("memory") == "512"
    assert options.all("graphics") == ["vnc,port=5901"]
    assert options.all("network") == ["bridge=br0,mac=52:54:00:00:00:01"]
    assert options.all("disk") == ["path=/x.img,size=3"]
    assert options.all("features") == ["acpi=off"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--nodisks", "--disk", "size=1"],
        ["--file", "/x", "--disk", "size=1"],
        ["--vnc", "--graphics", "vnc"],
        ["--vnc", "--sdl"],
        ["--bridge", "br0", "--network", "default"],
    ],
)
def test_contradictions(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        old.convert(parse(argv), Report(quiet=True))


def test_a_mistake_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nmae", "x"]) == 2
    err = capsys.readouterr().err
    assert err == "ERROR    unrecognized arguments: --nmae\nDid you mean --name?\n"
