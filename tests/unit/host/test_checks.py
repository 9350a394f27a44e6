"""Every check of ``guest doctor`` on machines that do not exist: once well, once for each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from guesthouse.host import checks
from guesthouse.host.checks import FAIL, OK, WARN, Finding, Host
from guesthouse.host.kvm import KvmStatus
from guesthouse.network import bridges, nat
from support.netns import Host as Machine
from support.netns import in_netns, run
from support.networks import network

Check = Callable[[Host], Iterator[Finding]]
GIB = 1 << 30
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A bare machine: no file, no program, the user alice in no group but her own."""
    return Host(
        root=tmp_path,
        user="alice",
        uid=1000,
        groups=frozenset({1000}),
        machine="x86_64",
        run=lambda argv: None,
        kvm=lambda: KvmStatus(False, False, "/dev/kvm is missing", "modprobe kvm"),
        listener=lambda path: 0,
        free=lambda path: 100 * GIB,
    )


def put(host: Host, path: str, text: str = "") -> None:
    file = host.at(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def program(host: Host, path: str) -> None:
    put(host, path)
    host.at(path).chmod(0o755)


def only(check: Check, host: Host) -> Finding:
    [finding] = check(host)
    assert finding.text
    assert finding.mark == OK or finding.remedy, "what is wrong says what mends it"
    return finding


def answers(words: dict[str, str]) -> Callable[[Sequence[str]], str | None]:
    return lambda argv: words.get(" ".join(argv))


# -- QEMU and the processor


def test_qemu_missing(host: Host) -> None:
    program(host, "/usr/bin/apt-get")
    found = only(checks.check_qemu, host)
    assert found.mark == FAIL and found.remedy == "sudo apt-get install qemu-system-x86"


def test_qemu_of_another_processor(host: Host) -> None:
    program(host, "/usr/bin/dnf")
    found = only(checks.check_qemu, replace(host, machine="aarch64"))
    assert found.mark == FAIL and "qemu-system-aarch64" in found.text
    assert found.remedy == "sudo dnf install qemu-kvm"


@pytest.mark.parametrize(
    ("said", "mark", "shown"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n", OK, "version 7.2.22"),
        ("QEMU emulator version 10.0.2\n", OK, "version 10.0.2"),
        ("QEMU emulator version 6.2.0\n", OK, "version 6.2.0"),
        ("QEMU emulator version 6.1.1\n", FAIL, "6.2 or newer"),
        ("", FAIL, "does not start"),
    ],
)
def test_qemu_version(host: Host, said: str, mark: str, shown: str) -> None:
    program(host, "/usr/bin/qemu-system-x86_64")
    host = replace(host, run=answers({"/usr/bin/qemu-system-x86_64 --version": said}))
    found = only(checks.check_qemu, host)
    assert found.mark == mark and shown in found.text


def test_qemu_where_fedora_has_it(host: Host) -> None:
    program(host, "/usr/libexec/qemu-kvm")
    host = replace(host, run=answers({"/usr/libexec/qemu-kvm --version": "QEMU emulator version 9.1.0\n"}))
    assert only(checks.check_qemu, host).mark == OK


@pytest.mark.parametrize(
    ("check", "path"),
    [
        (checks.check_qemu_img, "/usr/bin/qemu-img"),
        (checks.check_dnsmasq, "/usr/sbin/dnsmasq"),
        (checks.check_nft, "/usr/sbin/nft"),
    ],
)
def test_programs(host: Host, check: Check, path: str) -> None:
    assert only(check, host).mark == FAIL
    put(host, path)
    host.at(path).chmod(0o644)
    assert only(check, host).mark == FAIL, "a file that cannot be run is no program"
    host.at(path).chmod(0o755)
    found = only(check, host)
    assert found.mark == OK and path in found.text


@pytest.mark.parametrize(
    ("flags", "mark", "word"),
    [
        ("fpu vmx", WARN, "kvm_intel"),
        ("fpu svm", WARN, "kvm_amd"),
        ("fpu hypervisor", WARN, "guest itself"),
        ("fpu", WARN, "neither VT-x nor AMD-V"),
    ],
)
def test_processor_without(host: Host, flags: str, mark: str, word: str) -> None:
    put(host, "/proc/cpuinfo", f"processor\t: 0\nflags\t\t: {flags}\n")
    found = only(checks.check_cpu, host)
    assert found.mark == mark and word in found.text


@pytest.mark.parametrize(("flag", "module"), [("vmx", "kvm_intel"), ("svm", "kvm_amd")])
def test_processor_with_module(host: Host, flag: str, module: str) -> None:
    put(host, "/proc/cpuinfo", f"flags\t\t: fpu {flag} hypervisor\n")
    host.at(f"/sys/module/{module}").mkdir(parents=True)
    assert only(checks.check_cpu, host).mark == OK


def test_processor_with_kvm_built_in(host: Host) -> None:
    put(host, "/proc/cpuinfo", "flags\t\t: vmx\n")
    put(host, "/dev/kvm")
    assert only(checks.check_cpu, host).mark == OK


def test_processor_without_x86_flags_is_left_to_kvm(host: Host) -> None:
    put(host, "/proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd\n")
    assert list(checks.check_cpu(host)) == []


def test_kvm(host: Host) -> None:
    found = only(checks.check_kvm, host)
    assert found.mark == WARN and "/dev/kvm is missing" in found.text and found.remedy == "modprobe kvm"
    found = only(checks.check_kvm, replace(host, kvm=lambda: KvmStatus(True, True, "at hardware speed")))
    assert found == Finding("KVM", OK, "at hardware speed")


@pytest.mark.parametrize(("value", "word"), [("Y", "lets"), ("1", "lets"), ("N", "does not let"), ("0", "does not")])
def test_nested(host: Host, value: str, word: str) -> None:
    assert list(checks.check_nested(host)) == []
    put(host, "/sys/module/kvm_amd/parameters/nested", f"{value}\n")
    found = only(checks.check_nested, host)
    assert found.mark == OK and f"kvm_amd {word}" in found.text
    assert bool(found.remedy) == (value in "N0")


# -- the user


@pytest.mark.parametrize(("check", "name"), [(checks.check_kvm_group, "kvm"), (checks.check_libvirt_group, "libvirt")])
class TestGroups:
    def test_missing(self, host: Host, check: Check, name: str) -> None:
        put(host, "/etc/group", f"root:x:0:\n{name}x:x:7:alice\n")
        found = only(check, host)
        assert found.mark == WARN and f"groupadd --system {name} " in found.remedy

    def test_not_in_it(self, host: Host, check: Check, name: str) -> None:
        put(host, "/etc/group", f"root:x:0:\n{name}:x:7:bob,malice\n")
        found = only(check, host)
        assert found.mark == WARN and f"sudo usermod -aG {name} alice" in found.remedy

    def test_not_since_login(self, host: Host, check: Check, name: str) -> None:
        put(host, "/etc/group", f"root:x:0:\n{name}:x:7:bob,alice\n")
        found = only(check, host)
        assert found.mark == WARN and "log in again" in found.remedy and "usermod" not in found.remedy

    def test_in_it(self, host: Host, check: Check, name: str) -> None:
        put(host, "/etc/group", f"root:x:0:\n{name}:x:7:bob,alice\n")
        assert only(check, replace(host, groups=frozenset({1000, 7}))).mark == OK

    def test_root(self, host: Host, check: Check, name: str) -> None:
        root = replace(host, user="root", uid=0, groups=frozenset({0}))
        assert only(check, root).mark == WARN
        put(host, "/etc/group", f"{name}:x:7:\n")
        assert only(check, root).mark == OK


# -- the daemon


def test_no_daemon(host: Host) -> None:
    found = only(checks.check_daemon, host)
    assert found.mark == WARN and "qemu:///session" in found.remedy
    assert only(checks.check_daemon, replace(host, uid=0)).mark == OK


def test_daemon_of_systemd(host: Host) -> None:
    put(host, "/proc/812/cmdline", "/usr/sbin/libvirtd\0--timeout\x00120\0")
    put(host, "/proc/812/cgroup", "0::/system.slice/libvirtd.service\n")
    host = replace(host, listener=lambda path: 812 if path == checks.SOCKETS[0] else 0)
    found = only(checks.check_daemon, host)
    assert found.mark == OK
    assert found.text.startswith("libvirtd (pid 812, managed by systemd as libvirtd.service) answers on /run/libvirt/")


def test_daemons_side_by_side(host: Host) -> None:
    put(host, "/proc/812/cmdline", "/usr/sbin/libvirtd\0")
    put(host, "/proc/900/cmdline", "/usr/bin/python3\0/usr/local/bin/guesthoused\0")
    pids = dict(zip(checks.SOCKETS, (812, 900), strict=True))
    libvirtd, ours = checks.check_daemon(replace(host, listener=pids.get))
    assert libvirtd.text.startswith("libvirtd (pid 812, started by hand")
    assert ours.text.startswith("guesthoused (pid 900") and ours.text.endswith("/run/guesthouse/libvirt-sock")


def test_daemon_by_socket_activation(host: Host) -> None:
    put(host, "/proc/1/cmdline", "/sbin/init\0")
    put(host, "/proc/1/comm", "systemd\n")
    host = replace(host, listener=lambda path: 1 if path == checks.SOCKETS[0] else 0)
    found = only(checks.check_daemon, host)
    assert found.mark == OK and "when somebody connects" in found.text


def test_daemon_that_is_not_for_the_user(host: Host) -> None:
    host = replace(host, listener=lambda path: None if path == checks.SOCKETS[0] else 0)
    found = only(checks.check_daemon, host)
    assert found.mark == WARN and "usermod -aG libvirt alice" in found.remedy


# -- networks


def test_tun(host: Host) -> None:
    found = only(checks.check_tun, host)
    assert found.mark == FAIL and "modprobe tun" in found.remedy
    put(host, "/dev/net/tun")
    assert only(checks.check_tun, host).mark == OK


def row(address: str, state: str) -> str:
    return f"  17: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 2\n"


@pytest.mark.parametrize(
    ("table", "address", "state", "mark"),
    [
        ("udp", "00000000:0035", "07", FAIL),
        ("tcp", "00000000:0035", "0A", FAIL),
        ("udp6", "0" * 32 + ":0035", "07", FAIL),
        ("tcp6", "0" * 32 + ":0035", "0A", FAIL),
        ("udp", "3500007F:0035", "07", OK),  # systemd-resolved's 127.0.0.53
        ("tcp6", "0" * 31 + "1:0035", "0A", OK),  # ::1
        ("tcp", "017AA8C0:0035", "0A", OK),  # a network's own
        ("udp", "00000000:0043", "07", OK),  # another port
        ("tcp", "00000000:0035", "01", OK),  # a connection, no listener
    ],
)
def test_port_53(host: Host, table: str, address: str, state: str, mark: str) -> None:
    assert only(checks.check_port_53, host).mark == OK
    put(host, f"/proc/net/{table}", HEAD + row(address, state))
    found = only(checks.check_port_53, host)
    assert found.mark == mark
    if mark == FAIL:
        assert "another program" in found.text and table in found.text


def test_port_53_names_who_has_it(host: Host) -> None:
    put(host, "/proc/net/udp", HEAD + row("00000000:0035", "07"))
    put(host, "/proc/321/comm", "named\n")
    host.at("/proc/321/fd").mkdir()
    host.at("/proc/321/fd/5").symlink_to("socket:[4711]")
    put(host, "/proc/322/comm", "other\n")
    assert only(checks.check_port_53, host).text.startswith("named (pid 321) serves DNS")


def test_forwarding(host: Host) -> None:
    setting = "/proc/sys/net/ipv4/ip_forward"
    put(host, setting, "0\n")
    put(host, "/proc/mounts", "proc /proc proc rw,nosuid 0 0\n")
    found = only(checks.check_forwarding, host)
    assert found.mark == OK and found.text.startswith("off")
    put(host, "/proc/mounts", "proc /proc proc rw,nosuid 0 0\nproc /proc/sys proc ro,nosuid 0 0\n")
    assert only(checks.check_forwarding, host).mark == FAIL
    put(host, setting, "1\n")
    found = only(checks.check_forwarding, host)
    assert found.mark == OK and found.text == "on"


NFT = "/usr/sbin/nft list chain ip filter FORWARD"
DROPS = "table ip filter {\n chain FORWARD {\n  type filter hook forward priority filter; policy drop;\n"
ACCEPTS = DROPS.replace("drop", "accept")


class TestForwardPolicy:
    @pytest.fixture
    def host(self, host: Host) -> Host:
        program(host, "/usr/sbin/nft")
        return host

    def test_none(self, host: Host) -> None:
        assert "as root" in only(checks.check_forward_policy, host).text
        found = only(checks.check_forward_policy, replace(host, uid=0))
        assert found.mark == OK and "as root" not in found.text

    def test_accepts(self, host: Host) -> None:
        assert only(checks.check_forward_policy, replace(host, run=answers({NFT: ACCEPTS}))).mark == OK

    def test_drops(self, host: Host) -> None:
        found = only(checks.check_forward_policy, replace(host, run=answers({NFT: DROPS})))
        assert found.mark == WARN and "nft insert rule ip filter FORWARD" in found.remedy
        assert "Docker" not in found.text and "bridge" not in found.text

    def test_drops_but_not_guests(self, host: Host) -> None:
        rules = DROPS + '  iifname "virbr*" accept\n'
        assert only(checks.check_forward_policy, replace(host, run=answers({NFT: rules}))).mark == OK

    def test_docker_and_bridges(self, host: Host) -> None:
        host.at("/sys/class/net/docker0").mkdir(parents=True)
        put(host, "/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
        found = only(checks.check_forward_policy, replace(host, run=answers({NFT: DROPS})))
        assert found.mark == WARN and "Docker" in found.text and "br_netfilter" in found.text
        assert "sysctl -w net.bridge.bridge-nf-call-iptables=0" in found.remedy
        put(host, "/proc/sys/net/bridge/bridge-nf-call-iptables", "0\n")
        found = only(checks.check_forward_policy, replace(host, run=answers({NFT: DROPS})))
        assert found.mark == WARN and "br_netfilter" not in found.text

    def test_docker_where_one_may_not_look(self, host: Host) -> None:
        host.at("/sys/class/net/docker0").mkdir(parents=True)
        found = only(checks.check_forward_policy, host)
        assert found.mark == WARN and "Docker is here" in found.text

    def test_old_iptables(self, host: Host) -> None:
        program(host, "/usr/sbin/iptables-legacy")
        run = answers({"/usr/sbin/iptables-legacy -S FORWARD": "-P FORWARD DROP\n", NFT: ACCEPTS})
        assert only(checks.check_forward_policy, replace(host, run=run)).mark == OK, "its table is not loaded"
        put(host, "/proc/net/ip_tables_names", "nat\nfilter\n")
        found = only(checks.check_forward_policy, replace(host, run=run))
        assert found.mark == WARN and "iptables-legacy -I FORWARD" in found.remedy

    def test_other_tables(self, host: Host) -> None:
        chains = (
            "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n"
            "table inet firewalld {\n\tchain filter_FORWARD {\n\t\ttype filter hook forward priority 10; policy accept;\n"
        )
        told = {
            "/usr/sbin/nft list chains": chains,
            NFT: ACCEPTS,
            "/usr/sbin/nft list chain inet firewalld filter_FORWARD": "reject with icmpx admin-prohibited",
        }
        _, found = checks.check_forward_policy(replace(host, run=answers(told)))
        assert found.mark == WARN and "--zone=trusted --add-interface=virbr0" in found.remedy
        told["/usr/sbin/nft list table inet firewalld"] = 'iifname "virbr0" goto'
        assert only(checks.check_forward_policy, replace(host, run=answers(told))).mark == OK


@in_netns
def test_what_is_said_of_a_firewall_mends_it() -> None:
    """Where Docker's chain and another table drop what is forwarded, the remedies let guests' packets through."""
    made = network("<forward mode='nat'/>", bridge="virbr7")
    bridges.create(made)
    bridges.enable_forwarding(made)
    nat.install(made)
    for chain in ("ip filter FORWARD", "inet theirs others"):
        run("nft", f"add table {chain.rpartition(' ')[0]}")
        run("nft", f"add chain {chain} {{ type filter hook forward priority 0; policy drop; }}")
    with Machine("world", address="198.51.100.1/24") as world, Machine("guest", bridge="virbr7") as guest:
        world.run("ip", "address", "add", "198.51.100.2/24", "dev", "eth0")
        guest.run("ip", "address", "add", "10.20.30.50/24", "dev", "eth0")
        guest.run("ip", "route", "add", "default", "via", "10.20.30.1")
        assert not guest.reaches("198.51.100.2")
        found = list(checks.check_forward_policy(Host.here()))
        assert [finding.mark for finding in found] == [WARN, WARN]
        for finding in found:
            run("sh", "-c", finding.remedy.replace("sudo ", ""))
        assert guest.reaches("198.51.100.2")
        assert only(checks.check_forward_policy, Host.here()).mark == OK


# -- the rest


@pytest.mark.parametrize(("free", "mark"), [(GIB - 1, FAIL), (GIB, WARN), (10 * GIB - 1, WARN), (10 * GIB, OK)])
def test_space(host: Host, free: int, mark: str) -> None:
    host.at("/var/lib").mkdir(parents=True)
    asked: list[Path] = []

    def answer(folder: Path) -> int:
        asked.append(folder)
        return free

    assert only(checks.check_space, replace(host, free=answer)).mark == mark
    assert asked == [host.root / "var/lib"], "the nearest folder that is there"


def test_osinfo(host: Host) -> None:
    assert only(checks.check_osinfo, host).mark == WARN
    host.at("/usr/share/osinfo/os").mkdir(parents=True)
    assert only(checks.check_osinfo, host).mark == OK


@pytest.mark.parametrize(
    ("mounted", "mark", "word", "remedy"),
    [
        ("cpuset cpu io memory pids", OK, "version 2", ""),
        ("cpu pids", WARN, "cannot be held to memory, disk rates, NUMA nodes", "cgroup_disable"),
        ("", WARN, "none that the daemon may use", "mount -t cgroup2"),
        ("v1", OK, "version 1", ""),
        ("systemd", WARN, "none that the daemon may use", "guesthouse-machines.service"),
    ],
)
def test_cgroups(host: Host, mounted: str, mark: str, word: str, remedy: str) -> None:
    if mounted == "v1":
        put(host, "/proc/self/mounts", "cgroup /cg cgroup rw,cpu,cpuset,memory,blkio 0 0\n")
    elif mounted:
        put(host, "/proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n")
        put(host, "/sys/fs/cgroup/cgroup.controllers", mounted)
    if mounted == "systemd":
        host.at("/run/systemd/system").mkdir(parents=True)
    found = only(checks.check_cgroups, host)
    assert found.mark == mark and word in found.text and remedy in (found.remedy or "")


# -- all together


def test_every_check_is_asked(host: Host) -> None:
    named = {value for name, value in vars(checks).items() if name.startswith("check_")}
    assert named == set(checks.CHECKS)


def test_a_bare_machine_fails(host: Host) -> None:
    found = list(checks.findings(host))
    failed = {finding.topic for finding in found if finding.mark == FAIL}
    assert failed == {"QEMU", "qemu-img", "tun", "dnsmasq", "nftables"}
