"""Guests, their snapshots and their checkpoints."""

from __future__ import annotations

import os
import stat
from typing import Any

from guesthouse.libvirt import errors, migration, shapes, typed
from guesthouse.libvirt.objects import (
    Handle,
    Object,
    cpu_count,
    declared,
    handle_of,
    invalid,
    optional,
    string,
    unsigned,
    uuid_bytes,
)

_METHODS = """
OSType() domain_get_os_type
XMLDesc(flags=0) domain_get_xml_desc
abortJob() domain_abort_job
abortJobFlags(flags=0) domain_abort_job_flags
addIOThread(iothread_id,flags=0) domain_add_iothread
agentSetResponseTimeout(timeout,flags=0) domain_agent_set_response_timeout
attachDevice(xml) domain_attach_device
attachDeviceFlags(xml,flags=0) domain_attach_device_flags
authorizedSSHKeysGet(user,flags=0) domain_authorized_ssh_keys_get
authorizedSSHKeysSet(user,keys=None,flags=0) domain_authorized_ssh_keys_set
autostart() domain_get_autostart
backupBegin(backupXML,checkpointXML,flags=0) domain_backup_begin
backupGetXMLDesc(flags=0) domain_backup_get_xml_desc
blkioParameters(flags=0) domain_get_blkio_parameters
blockCommit(disk,base,top,bandwidth=0,flags=0) domain_block_commit
blockCopy(disk,destxml,params=None,flags=0) domain_block_copy
blockInfo(path,flags=0) domain_get_block_info -> [r.capacity, r.allocation, r.physical]
blockIoTune(disk,flags=0) domain_get_block_io_tune
blockJobAbort(disk,flags=0) domain_block_job_abort
blockJobInfo(path,flags=0) domain_get_block_job_info -> shapes.block_job(r)
blockJobSetSpeed(disk,bandwidth,flags=0) domain_block_job_set_speed
blockPeek(disk,offset,size,flags=0) domain_block_peek
blockPull(disk,bandwidth=0,flags=0) domain_block_pull
blockRebase(disk,base,bandwidth=0,flags=0) domain_block_rebase
blockResize(disk,size,flags=0) domain_block_resize
blockStats(path) domain_block_stats -> tuple(r)
blockStatsFlags(path,flags=0) domain_block_stats_flags
checkpointCreateXML(xmlDesc,flags=0) domain_checkpoint_create_xml
checkpointLookupByName(name,flags=0) domain_checkpoint_lookup_by_name
controlInfo(flags=0) domain_get_control_info
coreDump(to,flags=0) domain_core_dump
coreDumpWithFormat(to,dumpformat,flags=0) domain_core_dump_with_format
delIOThread(iothread_id,flags=0) domain_del_iothread
detachDevice(xml) domain_detach_device
detachDeviceAlias(alias,flags=0) domain_detach_device_alias
detachDeviceFlags(xml,flags=0) domain_detach_device_flags
diskErrors(flags=0) domain_get_disk_errors maxerrors=256 -> {x.disk: x.error for x in r.errors}
emulatorPinInfo(flags=0) domain_get_emulator_pin_info maplen=(cpu_count(o)+7)//8 -> tuple(typed.bits(r.cpumaps, cpu_count(o)))
fSTrim(mountPoint,minimum,flags=0) domain_fstrim
fsFreeze(mountpoints=None,flags=0) domain_fsfreeze
fsInfo(flags=0) domain_get_fsinfo -> [(x.mountpoint, x.name, x.fstype, list(x.dev_aliases)) for x in r.info]
fsThaw(mountpoints=None,flags=0) domain_fsthaw
getTime(flags=0) domain_get_time -> r.asdict()
guestInfo(types=0,flags=0) domain_get_guest_info
hasCurrentSnapshot(flags=0) domain_has_current_snapshot
hasManagedSaveImage(flags=0) domain_has_managed_save_image
hostname(flags=0) domain_get_hostname
info() domain_get_info
injectNMI(flags=0) domain_inject_nmi
interfaceAddresses(source,flags=0) domain_interface_addresses -> shapes.interfaces(r.ifaces)
interfaceParameters(device,flags=0) domain_get_interface_parameters
interfaceStats(path) domain_interface_stats -> tuple(r)
ioThreadInfo(flags=0) domain_get_iothread_info -> [(x.iothread_id, typed.bits(x.cpumap, cpu_count(o))) for x in r.info]
isActive() domain_is_active
isPersistent() domain_is_persistent
isUpdated() domain_is_updated
jobInfo() domain_get_job_info
jobStats(flags=0) domain_get_job_stats -> {"type": r.type, **typed.values(r.params)}
launchSecurityInfo(flags=0) domain_get_launch_security_info
listAllCheckpoints(flags=0) domain_list_all_checkpoints
listAllSnapshots(flags=0) domain_list_all_snapshots
managedSave(flags=0) domain_managed_save
managedSaveDefineXML(dxml,flags=0) domain_managed_save_define_xml
managedSaveGetXMLDesc(flags=0) domain_managed_save_get_xml_desc
managedSaveRemove(flags=0) domain_managed_save_remove
maxMemory() domain_get_max_memory
maxVcpus() domain_get_max_vcpus
memoryParameters(flags=0) domain_get_memory_parameters
memoryPeek(start,size,flags=0) domain_memory_peek
memoryStats() domain_memory_stats maxStats=13 flags=0 -> shapes.memory(r.stats)
messages(flags=0) domain_get_messages
metadata(type,uri,flags=0) domain_get_metadata
migrateGetCompressionCache(flags=0) domain_migrate_get_compression_cache
migrateGetMaxSpeed(flags=0) domain_migrate_get_max_speed
migrateSetCompressionCache(cacheSize,flags=0) domain_migrate_set_compression_cache
migrateSetMaxDowntime(downtime,flags=0) domain_migrate_set_max_downtime
migrateSetMaxSpeed(bandwidth,flags=0) domain_migrate_set_max_speed
migrateStartPostCopy(flags=0) domain_migrate_start_post_copy
numaParameters(flags=0) domain_get_numa_parameters
pMSuspendForDuration(target,duration,flags=0) domain_pm_suspend_for_duration
pMWakeup(flags=0) domain_pm_wakeup
perfEvents(flags=0) domain_get_perf_events
pinEmulator(cpumap,flags=0) domain_pin_emulator
pinIOThread(iothread_val,cpumap,flags=0) domain_pin_iothread
pinVcpu(vcpu,cpumap) domain_pin_vcpu
pinVcpuFlags(vcpu,cpumap,flags=0) domain_pin_vcpu_flags
reboot(flags=0) domain_reboot
reset(flags=0) domain_reset
resume() domain_resume
save(to) domain_save
saveFlags(to,dxml=None,flags=0) domain_save_flags
saveParams(params,flags=0) domain_save_params
schedulerParametersFlags(flags=0) domain_get_scheduler_parameters_flags nparams=self._schedulerCount()
schedulerType() domain_get_scheduler_type -> tuple(r)
securityLabel() domain_get_security_label -> [r.label, bool(r.enforcing)]
securityLabelList() domain_get_security_label_list -> [[x.label, bool(x.enforcing)] for x in r.labels]
sendKey(codeset,holdtime,keycodes,nkeycodes,flags=0) domain_send_key keycodes=list(keycodes)[:nkeycodes]
sendProcessSignal(pid_value,signum,flags=0) domain_send_process_signal
setAutostart(autostart) domain_set_autostart
setBlkioParameters(params,flags=0) domain_set_blkio_parameters params=fit(o,'virDomainGetBlkioParameters','domain_get_blkio_parameters',params,{'dom':o.ref,'flags':flags})
setBlockIoTune(disk,params,flags=0) domain_set_block_io_tune params=fit(o,'virDomainGetBlockIoTune','domain_get_block_io_tune',params,{'dom':o.ref,'disk':args_disk(disk),'flags':flags})
setBlockThreshold(dev,threshold,flags=0) domain_set_block_threshold
setGuestVcpus(cpumap,state,flags=0) domain_set_guest_vcpus
setIOThreadParams(iothread_val,params,flags=0) domain_set_iothread_params
setInterfaceParameters(device,params,flags=0) domain_set_interface_parameters params=fit(o,'virDomainGetInterfaceParameters','domain_get_interface_parameters',params,{'dom':o.ref,'device':args_disk(device),'flags':flags})
setLaunchSecurityState(params,flags=0) domain_set_launch_security_state
setLifecycleAction(type,action,flags=0) domain_set_lifecycle_action
setMaxMemory(memory) domain_set_max_memory memory=kib(memory,'virDomainSetMaxMemory')
setMemory(memory) domain_set_memory memory=kib(memory,'virDomainSetMemory')
setMemoryFlags(memory,flags=0) domain_set_memory_flags memory=kib(memory,'virDomainSetMemoryFlags')
setMemoryParameters(params,flags=0) domain_set_memory_parameters params=fit(o,'virDomainGetMemoryParameters','domain_get_memory_parameters',params,{'dom':o.ref,'flags':flags})
setMemoryStatsPeriod(period,flags=0) domain_set_memory_stats_period
setMetadata(type,metadata,key,uri,flags=0) domain_set_metadata
setNumaParameters(params,flags=0) domain_set_numa_parameters params=fit(o,'virDomainGetNumaParameters','domain_get_numa_parameters',params,{'dom':o.ref,'flags':flags})
setPerfEvents(params,flags=0) domain_set_perf_events params=typed.switches(params)
setUserPassword(user,password,flags=0) domain_set_user_password
setVcpu(vcpumap,state,flags=0) domain_set_vcpu
setVcpus(nvcpus) domain_set_vcpus
setVcpusFlags(nvcpus,flags=0) domain_set_vcpus_flags
shutdown() domain_shutdown
shutdownFlags(flags=0) domain_shutdown_flags
snapshotCreateXML(xmlDesc,flags=0) domain_snapshot_create_xml
snapshotCurrent(flags=0) domain_snapshot_current
snapshotListNames(flags=0) domain_snapshot_list_names
snapshotLookupByName(name,flags=0) domain_snapshot_lookup_by_name
snapshotNum(flags=0) domain_snapshot_num
startDirtyRateCalc(seconds,flags=0) domain_start_dirty_rate_calc
state(flags=0) domain_get_state
suspend() domain_suspend
undefine() domain_undefine
undefineFlags(flags=0) domain_undefine_flags
updateDeviceFlags(xml,flags=0) domain_update_device_flags
vcpusFlags(flags=0) domain_get_vcpus_flags
"""
_CPUS_AT_ONCE = 128  # that statistics are asked for


@declared(_METHODS, shapes=shapes, args_disk=optional)
class virDomain(Object):
    """A guest."""

    _kind = "nonnull_domain"

    def name(self) -> str:
        return str(self._o.ref[0])

    def UUID(self) -> bytes:
        return uuid_bytes(self._o.ref[1])

    def UUIDString(self) -> str:
        return str(self._o.ref[1])

    def ID(self) -> int:
        """The number of the running guest as of the last answer about it; -1 where it does not run."""
        return int(self._o.ref[2])

    def _call(self, function: str, procedure: str, **args: Any) -> Any:
        return self._o.session.call(function, procedure, {"dom": self._o.ref, **args})

    # -- running

    def create(self) -> int:
        self._call("virDomainCreate", "domain_create")
        found = self._o.session.call("virDomainCreate", "domain_lookup_by_uuid", {"uuid": self._o.ref[1]})
        self._o.ref = tuple(found.dom)
        return 0

    def createWithFlags(self, flags: int = 0) -> int:
        found = self._call("virDomainCreateWithFlags", "domain_create_with_flags", flags=unsigned(flags))
        self._o.ref = tuple(found.dom)
        return 0

    def createWithFiles(self, files: list[int], flags: int = 0) -> int:
        """Start it with the open ``files``."""
        args = {"dom": self._o.ref, "flags": unsigned(flags)}
        found = self._o.session.call_with_files(
            "virDomainCreateWithFiles", "domain_create_with_files", args, list(files)
        )
        self._o.ref = tuple(found[0].dom)
        return 0

    def destroy(self) -> int:
        self._call("virDomainDestroy", "domain_destroy")
        return self._stopped()

    def destroyFlags(self, flags: int = 0) -> int:
        self._call("virDomainDestroyFlags", "domain_destroy_flags", flags=unsigned(flags))
        return self._stopped()

    def _stopped(self) -> int:
        self._o.ref = (*self._o.ref[:2], -1)
        return 0

    def rename(self, new_name: str, flags: int = 0) -> int:
        args = {"new_name": string(new_name, "virDomainRename", "new_name"), "flags": unsigned(flags)}
        return int(self._call("virDomainRename", "domain_rename", **args).retcode)

    def revertToSnapshot(self, snap: Any, flags: int = 0) -> int:
        function = "virDomainRevertToSnapshot"
        args = {"snap": handle_of(snap, function), "flags": unsigned(flags)}
        self._o.session.call(function, "domain_revert_to_snapshot", args)
        return 0

    # -- CPUs

    def vcpus(self) -> tuple[list[tuple[int, ...]], list[tuple[bool, ...]]]:
        """Of each virtual CPU (number, state, time, CPU), and which CPUs it may run on."""
        count = cpu_count(self._o)
        number = self._call("virDomainGetInfo", "domain_get_info").nrVirtCpu
        size = (count + 7) // 8
        found = self._call("virDomainGetVcpus", "domain_get_vcpus", maxinfo=number, maplen=size)
        return [tuple(record) for record in found.info], _maps(found.cpumaps, size, count)[: len(found.info)]

    def vcpuPinInfo(self, flags: int = 0) -> list[tuple[bool, ...]]:
        count = cpu_count(self._o)
        number = self._call("virDomainGetInfo", "domain_get_info").nrVirtCpu
        args = {"ncpumaps": number, "maplen": (count + 7) // 8, "flags": unsigned(flags)}
        found = self._call("virDomainGetVcpuPinInfo", "domain_get_vcpu_pin_info", **args)
        return _maps(found.cpumaps, (count + 7) // 8, count)[: found.num]

    def getCPUStats(self, total: bool, flags: int = 0) -> list[dict[str, int]]:
        """Statistics of all CPUs together, or of each."""

        def ask(nparams: int, start: int, count: int) -> Any:
            args = {"nparams": nparams, "start_cpu": start, "ncpus": count, "flags": unsigned(flags)}
            return self._call("virDomainGetCPUStats", "domain_get_cpu_stats", **args)

        if total:
            count = ask(0, -1, 1).nparams
            return [typed.values(ask(count, -1, 1).params)] if count else []
        cpus, count = ask(0, 0, 0).nparams, ask(0, 0, 1).nparams
        rows = []
        for start in range(0, cpus if count else 0, _CPUS_AT_ONCE):
            found = ask(count, start, min(_CPUS_AT_ONCE, cpus - start))
            each = found.nparams or 1
            rows += [typed.values(found.params[at : at + each]) for at in range(0, len(found.params), each)]
        return rows

    def guestVcpus(self, flags: int = 0) -> dict[str, Any] | None:
        """What the guest says of its CPUs; None, as libvirt-python does, where it cannot be had."""
        try:
            return typed.values(
                self._call("virDomainGetGuestVcpus", "domain_get_guest_vcpus", flags=unsigned(flags)).params
            )
        except errors.libvirtError:
            return None

    # -- the scheduler

    def _schedulerCount(self) -> int:
        return int(self._call("virDomainGetSchedulerType", "domain_get_scheduler_type").nparams)

    def schedulerParameters(self) -> dict[str, Any]:
        return typed.values(self._scheduler())

    def _scheduler(self) -> Any:
        function = "virDomainGetSchedulerParameters"
        return self._call(function, "domain_get_scheduler_parameters", nparams=self._schedulerCount()).params

    def setSchedulerParameters(self, params: dict[str, Any]) -> int:
        known = self._scheduler() if params else []
        function = "virDomainSetSchedulerParameters"
        self._call(function, "domain_set_scheduler_parameters", params=typed.fitting(known, params))
        return 0

    def setSchedulerParametersFlags(self, params: dict[str, Any], flags: int = 0) -> int:
        known = self._scheduler() if params else []
        args = {"params": typed.fitting(known, params), "flags": unsigned(flags)}
        self._call("virDomainSetSchedulerParametersFlags", "domain_set_scheduler_parameters_flags", **args)
        return 0

    # -- streams and descriptors

    def _flow(self, function: str, procedure: str, stream: Any, **args: Any) -> Any:
        if stream is None:
            invalid(function, "stream")
        return stream._start(function, procedure, {"dom": self._o.ref, **args})

    def openConsole(self, dev_name: str | None, st: Any, flags: int = 0) -> int:
        """Connect ``st`` with the guest's console, or another of its serial and console devices."""
        args = {"dev_name": optional(dev_name), "flags": unsigned(flags)}
        self._flow("virDomainOpenConsole", "domain_open_console", st, **args)
        return 0

    def openChannel(self, name: str | None, st: Any, flags: int = 0) -> int:
        """Connect ``st`` with a channel of the guest."""
        self._flow("virDomainOpenChannel", "domain_open_channel", st, name=optional(name), flags=unsigned(flags))
        return 0

    def screenshot(self, stream: Any, screen: int, flags: int = 0) -> str:
        """Have ``stream`` give a picture of a screen; returns its MIME type."""
        args = {"screen": unsigned(screen), "flags": unsigned(flags)}
        return str(self._flow("virDomainScreenshot", "domain_screenshot", stream, **args).mime)

    def openGraphics(self, idx: int, fd: int, flags: int = 0) -> int:
        """Make the socket ``fd`` a client of the guest's display."""
        function = "virDomainOpenGraphics"
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            text = f"fd {fd} must be a socket"
            errors.refuse(function, errors.INVALID_ARG, errors.FROM_DOMAIN, text, function, "fd")
        args = {"dom": self._o.ref, "idx": unsigned(idx), "flags": unsigned(flags)}
        self._o.session.call_with_files(function, "domain_open_graphics", args, [fd])
        return 0

    def openGraphicsFD(self, idx: int, flags: int = 0) -> int:
        """A socket that is a client of the guest's display."""
        args = {"dom": self._o.ref, "idx": unsigned(idx), "flags": unsigned(flags)}
        _, fds = self._o.session.call_with_files("virDomainOpenGraphicsFD", "domain_open_graphics_fd", args, [])
        for extra in fds[1:]:
            os.close(extra)
        return int(fds[0])

    def FDAssociate(self, name: str, files: list[int], flags: int = 0) -> int:
        """Let the guest's definition name the open ``files``, as long as this connection lives."""
        function = "virDomainFDAssociate"
        if not files:
            text = f"nfds in {function} must not be zero"
            errors.refuse(function, errors.INVALID_ARG, errors.FROM_DOMAIN, text, function, "nfds")
        args = {"dom": self._o.ref, "name": string(name, function, "name"), "flags": unsigned(flags)}
        self._o.session.call_with_files(function, "domain_fd_associate", args, list(files))
        return 0

    # -- the clock

    def setTime(self, time: dict[str, int] | None = None, flags: int = 0) -> int:
        """Set the guest's clock, or with the flag for that from the host's."""
        if not isinstance(time, dict) and not (time is None and flags):
            raise TypeError("time must be a dictionary or None with flags set")
        given = time or {"seconds": 0}
        if "seconds" not in given:
            raise LookupError("malformed or missing 'seconds'")
        args = {"seconds": given["seconds"], "nseconds": unsigned(given.get("nseconds", 0)), "flags": unsigned(flags)}
        self._call("virDomainSetTime", "domain_set_time", **args)
        return 0

    # -- migration

    def migrateGetMaxDowntime(self, flags: int = 0) -> int | None:
        """In ms; None, as libvirt-python does, where it cannot be had."""
        try:
            return int(
                self._call(
                    "virDomainMigrateGetMaxDowntime", "domain_migrate_get_max_downtime", flags=unsigned(flags)
                ).downtime
            )
        except errors.libvirtError:
            return None

    def migrate(
        self, dconn: Any, flags: int = 0, dname: str | None = None, uri: str | None = None, bandwidth: int = 0
    ) -> Any:
        """Move it to the host of ``dconn``; returns it there."""
        return self.migrate2(dconn, None, flags, dname, uri, bandwidth)

    def migrate2(
        self,
        dconn: Any,
        dxml: str | None = None,
        flags: int = 0,
        dname: str | None = None,
        uri: str | None = None,
        bandwidth: int = 0,
    ) -> Any:
        return self.migrate3(dconn, migration.parameters(dxml, dname, uri, bandwidth), flags)

    def migrate3(self, dconn: Any, params: dict[str, Any], flags: int = 0) -> Any:
        return migration.between(self, dconn, params, flags)

    def migrateToURI(self, duri: str, flags: int = 0, dname: str | None = None, bandwidth: int = 0) -> int:
        """Have its host move it to another."""
        return self.migrateToURI2(duri, None, None, flags, dname, bandwidth)

    def migrateToURI2(
        self,
        dconnuri: str | None = None,
        miguri: str | None = None,
        dxml: str | None = None,
        flags: int = 0,
        dname: str | None = None,
        bandwidth: int = 0,
    ) -> int:
        return self.migrateToURI3(dconnuri, migration.parameters(dxml, dname, miguri, bandwidth), flags)

    def migrateToURI3(self, dconnuri: str | None, params: dict[str, Any], flags: int = 0) -> int:
        migration.by_host(self, dconnuri, params, flags)
        return 0


def _maps(cpumaps: bytes, size: int, count: int) -> list[tuple[bool, ...]]:
    return [tuple(typed.bits(cpumaps[at : at + size], count)) for at in range(0, len(cpumaps), size)]


class _OfDomain(Object):
    """What belongs to a guest and goes by a name."""

    def __init__(self, dom: Any, _obj: Handle | None = None) -> None:
        super().__init__(dom, _obj)
        self._dom = dom

    def domain(self) -> Any:
        """The guest that it is of."""
        return self._dom

    def getDomain(self) -> Any:
        return self._dom

    def getConnect(self) -> Any:
        return self._conn

    def getName(self) -> str:
        return str(self._o.ref[0])


@declared("""
delete(flags=0) domain_snapshot_delete
getParent(flags=0) domain_snapshot_get_parent -> wrap(self._dom, 'nonnull_domain_snapshot', r.snap)
getXMLDesc(flags=0) domain_snapshot_get_xml_desc
hasMetadata(flags=0) domain_snapshot_has_metadata
isCurrent(flags=0) domain_snapshot_is_current
listAllChildren(flags=0) domain_snapshot_list_all_children -> [wrap(self._dom, 'nonnull_domain_snapshot', x) for x in r.snapshots]
listChildrenNames(flags=0) domain_snapshot_list_children_names
numChildren(flags=0) domain_snapshot_num_children
""")  # fmt: skip
class virDomainSnapshot(_OfDomain):
    """A state of a guest that was kept."""

    _kind = "nonnull_domain_snapshot"


@declared("""
delete(flags=0) domain_checkpoint_delete
getParent(flags=0) domain_checkpoint_get_parent -> wrap(self._dom, 'nonnull_domain_checkpoint', r.parent)
getXMLDesc(flags=0) domain_checkpoint_get_xml_desc
listAllChildren(flags=0) domain_checkpoint_list_all_children -> [wrap(self._dom, 'nonnull_domain_checkpoint', x) for x in r.checkpoints]
""")  # fmt: skip
class virDomainCheckpoint(_OfDomain):
    """A point in time since which a guest's changed blocks are known."""

    _kind = "nonnull_domain_checkpoint"
