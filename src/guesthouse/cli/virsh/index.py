"""Which module holds which command, so that a run imports that one alone. A test keeps it complete."""

from __future__ import annotations

from guesthouse.cli.virsh.command import REGISTRY, Command

# keyword of a group, and its name; in the order of help
GROUPS = {
    "domain": "Domain Management",
    "monitor": "Domain Monitoring",
    "events": "Domain Events",
    "host": "Host and Hypervisor",
    "interface": "Interface",
    "filter": "Network Filter",
    "network": "Networking",
    "nodedev": "Node Device",
    "secret": "Secret",
    "pool": "Storage Pool",
    "volume": "Storage Volume",
    "virsh": "Virsh itself",
}

_NAMES = {
    "domain_life": "create define destroy reboot reset resume shutdown start suspend",
    "domain_config": "autostart undefine",
    "domain_names": "domid domname domrename domuuid",
    "domain_xml": "dumpxml edit",
    "domain_save": "domxml-from-native domxml-to-native managedsave managedsave-define managedsave-dumpxml managedsave-edit"
    " managedsave-remove restore save save-image-define save-image-dumpxml save-image-edit",
    "domain_metadata": "desc metadata",
    "console": "console ttyconsole",
    "display": "domdisplay vncdisplay",
    "screenshot": "screenshot",
    "domain_list": "list",
    "domain_info": "domcontrol dominfo domstate",
    "domain_job": "domjobinfo",
    "domain_devices": "domblkinfo domblklist domif-getlink domifaddr domiflist",
    "domain_memory": "setmaxmem setmem",
    "domain_vcpus": "vcpucount",
    "domain_pins": "emulatorpin guestvcpus setvcpu setvcpus vcpuinfo vcpupin",
    "domain_agent": "domfsfreeze domfsinfo domfsthaw domfstrim domhostname dompmsuspend dompmwakeup domtime"
    " get-user-sshkeys guest-agent-timeout guestinfo set-user-password set-user-sshkeys",
    "domain_qemu": "qemu-agent-command qemu-monitor-command qemu-monitor-event",
    "domain_control": "dom-fd-associate domdirtyrate-calc domjobabort domlaunchsecinfo domsetlaunchsecstate dump inject-nmi"
    " send-key send-process-signal set-lifecycle-action",
    "domain_foreign": "lxc-enter-namespace qemu-attach",
    "domain_tune": "blkiotune cpu-stats domblkerror memtune numatune perf schedinfo",
    "domain_limits": "domiftune",
    "domain_blocks": "blkdeviotune blockresize domblkthreshold",
    "domain_iothreads": "iothreadadd iothreaddel iothreadinfo iothreadpin iothreadset",
    "device_attach": "attach-device detach-device detach-device-alias update-device update-memory-device",
    "device_disk": "attach-disk change-media detach-disk",
    "device_nic": "attach-interface detach-interface domif-setlink",
    "domain_stats": "domblkstat domifstat dommemstat domstats",
    "domain_events": "event",
    "host": "capabilities cpu-models domcapabilities freecell hostname maxvcpus nodecpumap nodecpustats nodeinfo"
    " nodememstats sysinfo uri version",
    "host_cpu": "cpu-baseline cpu-compare hypervisor-cpu-baseline hypervisor-cpu-compare",
    "host_memory": "allocpages freepages node-memory-tune nodesevinfo nodesuspend",
    "interface": "iface-begin iface-commit iface-define iface-destroy iface-dumpxml iface-edit iface-list iface-mac"
    " iface-name iface-rollback iface-start iface-undefine",
    "interface_bridge": "iface-bridge iface-unbridge",
    "network": "net-autostart net-create net-define net-destroy net-dumpxml net-edit net-info net-name net-start"
    " net-undefine net-update net-uuid",
    "network_metadata": "net-metadata",
    "network_list": "net-dhcp-leases net-list",
    "network_events": "net-event",
    "network_ports": "net-port-create net-port-delete net-port-dumpxml net-port-list",
    "nwfilter": "nwfilter-binding-create nwfilter-binding-delete nwfilter-binding-dumpxml nwfilter-binding-list"
    " nwfilter-define nwfilter-dumpxml nwfilter-edit nwfilter-list nwfilter-undefine",
    "nodedev": "nodedev-autostart nodedev-create nodedev-define nodedev-destroy nodedev-detach nodedev-dumpxml"
    " nodedev-info nodedev-reattach nodedev-reset nodedev-start nodedev-undefine",
    "nodedev_list": "nodedev-list",
    "nodedev_events": "nodedev-event",
    "secret": "secret-define secret-dumpxml secret-event secret-get-value secret-list secret-set-value secret-undefine",
    "pool": "pool-autostart pool-build pool-create pool-define pool-delete pool-destroy pool-dumpxml pool-edit"
    " pool-info pool-name pool-refresh pool-start pool-undefine pool-uuid",
    "pool_as": "pool-create-as pool-define-as",
    "pool_list": "pool-list",
    "pool_events": "pool-event",
    "pool_sources": "find-storage-pool-sources find-storage-pool-sources-as pool-capabilities",
    "volume": "vol-delete vol-dumpxml vol-info vol-key vol-name vol-path vol-pool vol-resize vol-wipe",
    "volume_create": "vol-clone vol-create vol-create-as vol-create-from",
    "volume_data": "vol-download vol-upload",
    "volume_list": "vol-list",
    "itself": "cd connect echo exit help pwd quit",
    "completion": "complete",
}
# known, but not for people: left out of lists and hints
HIDDEN = frozenset({"complete"})
MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def find(name: str) -> Command | None:
    """The command called ``name``, its module imported; None where there is none."""
    module = MODULES.get(name)
    if module is None:
        return None
    if name not in REGISTRY:
        __import__(f"{__package__}.{module}")
    return REGISTRY[name]


def names() -> list[str]:
    """The names of all commands that are listed, sorted. Imports no module."""
    return sorted(MODULES.keys() - HIDDEN)


def all_commands() -> dict[str, list[Command]]:
    """Every command that is listed, by group, in the order of help. Imports all modules."""
    grouped: dict[str, list[Command]] = {group: [] for group in GROUPS}
    for name in names():
        command = find(name)
        assert command is not None
        grouped[command.group].append(command)
    return grouped


def hint(name: str) -> str:
    """A line with the commands that a mistyped ``name`` may mean, empty where nothing comes near."""
    from guesthouse.cli import nearest

    return nearest.hint(name, names())
