"""What each procedure asks of who calls it, in the names of libvirt's access control: ``domain:start`` and so on.

A need is ``object:permission``, with libvirt 9.0's condition behind it where it counts for some calls alone: ``:6``
where all of these bits are set in ``flags``, ``:!3`` where none of these are, ``:source=1`` where that argument has
that value. A procedure that is missing here may be called by nobody who is held to rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from guesthouse.wire.procedures import Procedure

# fmt: off
# needs -> the procedures that have them
_NEEDS: dict[str, str] = {
    "connect:getattr": (
        "connect_open connect_get_type connect_get_version connect_get_hostname connect_supports_feature "
        "connect_get_uri connect_get_lib_version connect_register_close_callback connect_unregister_close_callback"
    ),
    "": "connect_close auth_list auth_sasl_init auth_sasl_start auth_sasl_step auth_polkit connect_is_secure",
    "connect:read": (
        "connect_get_max_vcpus node_get_info connect_get_capabilities node_get_cells_free_memory node_get_free_memory "
        "connect_domain_event_deregister node_get_security_model connect_compare_cpu connect_baseline_cpu "
        "connect_domain_event_deregister_any connect_get_sysinfo node_get_cpu_stats node_get_memory_stats "
        "node_get_memory_parameters node_get_cpu_map connect_get_cpu_model_names connect_network_event_deregister_any "
        "connect_domain_event_callback_deregister_any node_get_free_pages connect_storage_pool_event_deregister_any "
        "connect_node_device_event_deregister_any connect_secret_event_deregister_any node_get_sev_info "
        "connect_get_storage_pool_capabilities"
    ),
    "domain:write": (
        "domain_attach_device domain_detach_device domain_pin_vcpu domain_set_autostart domain_set_max_memory "
        "domain_set_memory domain_set_vcpus domain_abort_job domain_save_image_get_xml_desc domain_block_job_abort "
        "domain_block_job_set_speed domain_get_hostname domain_get_time domain_set_perf_events domain_get_guest_vcpus "
        "domain_set_guest_vcpus domain_set_block_threshold domain_set_lifecycle_action domain_get_guest_info "
        "domain_agent_set_response_timeout domain_authorized_ssh_keys_get domain_authorized_ssh_keys_set "
        "domain_start_dirty_rate_calc domain_set_launch_security_state domain_abort_job_flags domain_fd_associate "
        "qemu_domain_monitor_command qemu_domain_agent_command qemu_domain_monitor_command_with_files"
    ),
    "domain:start": "domain_create domain_create_with_flags domain_create_with_files",
    "domain:write domain:start": "domain_create_xml domain_create_xml_with_files",
    "domain:write domain:save": "domain_define_xml domain_define_xml_flags domain_rename",
    "domain:stop": "domain_destroy domain_destroy_flags",
    "domain:read domain:read_secure:1 domain:read_secure:8": "domain_get_xml_desc",
    "domain:read": (
        "domain_get_autostart domain_get_info domain_get_max_memory domain_get_max_vcpus domain_get_os_type "
        "domain_get_vcpus domain_get_scheduler_type domain_get_scheduler_parameters domain_set_scheduler_parameters "
        "domain_block_stats domain_interface_stats domain_get_security_label domain_is_active domain_is_persistent "
        "domain_memory_stats domain_get_job_info domain_has_managed_save_image domain_snapshot_num "
        "domain_snapshot_list_names domain_snapshot_lookup_by_name domain_has_current_snapshot "
        "domain_snapshot_current domain_get_block_info domain_get_memory_parameters domain_is_updated "
        "domain_get_blkio_parameters domain_get_state domain_get_scheduler_parameters_flags domain_get_control_info "
        "domain_get_vcpu_pin_info domain_get_block_job_info domain_block_stats_flags domain_snapshot_get_parent "
        "domain_snapshot_num_children domain_snapshot_list_children_names domain_get_block_io_tune "
        "domain_get_numa_parameters domain_get_interface_parameters domain_get_cpu_stats domain_get_disk_errors "
        "domain_get_metadata domain_snapshot_is_current domain_snapshot_has_metadata domain_list_all_snapshots "
        "domain_snapshot_list_all_children domain_get_security_label_list domain_get_emulator_pin_info "
        "domain_get_job_stats domain_get_iothread_info domain_get_perf_events domain_get_launch_security_info "
        "domain_list_all_checkpoints domain_checkpoint_list_all_children domain_checkpoint_lookup_by_name "
        "domain_checkpoint_get_parent domain_backup_get_xml_desc domain_get_messages"
    ),
    "connect:search_domains": (
        "connect_list_defined_domains connect_num_of_defined_domains connect_list_domains connect_num_of_domains "
        "connect_domain_event_register connect_domain_event_register_any connect_list_all_domains "
        "connect_domain_event_callback_register_any connect_get_all_domain_stats"
    ),
    "domain:getattr": "domain_lookup_by_id domain_lookup_by_name domain_lookup_by_uuid",
    "domain:init_control domain:write:2": "domain_reboot domain_shutdown_flags",
    "domain:suspend": "domain_resume domain_suspend",
    "domain:init_control": "domain_shutdown",
    "domain:delete": "domain_undefine domain_undefine_flags",
    "connect:search_networks": (
        "connect_list_defined_networks connect_list_networks connect_num_of_defined_networks connect_num_of_networks "
        "connect_list_all_networks connect_network_event_register_any"
    ),
    "network:start": "network_create",
    "network:write network:start": "network_create_xml network_create_xml_flags",
    "network:write network:save": "network_define_xml network_define_xml_flags",
    "network:stop": "network_destroy",
    "network:read": (
        "network_get_xml_desc network_get_autostart network_get_bridge_name network_is_active network_is_persistent "
        "network_get_dhcp_leases network_get_metadata"
    ),
    "network:getattr": "network_lookup_by_name network_lookup_by_uuid",
    "network:write": "network_set_autostart",
    "network:delete": "network_undefine",
    "domain:core_dump": "domain_core_dump domain_core_dump_with_format",
    "domain:start domain:write": (
        "domain_restore domain_restore_flags domain_restore_params qemu_domain_attach"
    ),
    "domain:hibernate": (
        "domain_save domain_managed_save domain_managed_save_remove domain_save_flags domain_save_params"
    ),
    "domain:migrate domain:start domain:write": (
        "domain_migrate_prepare domain_migrate_prepare2 domain_migrate_prepare_tunnel domain_migrate_prepare3 "
        "domain_migrate_prepare_tunnel3 domain_migrate_prepare3_params domain_migrate_prepare_tunnel3_params"
    ),
    "domain:migrate": (
        "domain_migrate_perform domain_migrate_finish domain_migrate_finish2 domain_migrate_set_max_downtime "
        "domain_migrate_set_max_speed domain_migrate_begin3 domain_migrate_perform3 domain_migrate_finish3 "
        "domain_migrate_confirm3 domain_migrate_get_max_speed domain_migrate_get_compression_cache "
        "domain_migrate_set_compression_cache domain_migrate_begin3_params domain_migrate_perform3_params "
        "domain_migrate_finish3_params domain_migrate_confirm3_params domain_migrate_start_post_copy "
        "domain_migrate_get_max_downtime"
    ),
    "connect:search_storage_pools": (
        "connect_num_of_storage_pools connect_list_storage_pools connect_num_of_defined_storage_pools "
        "connect_list_defined_storage_pools connect_list_all_storage_pools connect_storage_pool_event_register_any"
    ),
    "connect:detect_storage_pools": "connect_find_storage_pool_sources",
    "storage_pool:start storage_pool:write": "storage_pool_create_xml",
    "storage_pool:write storage_pool:save": "storage_pool_define_xml",
    "storage_pool:start": "storage_pool_create",
    "storage_pool:format": "storage_pool_build storage_pool_delete",
    "storage_pool:stop": "storage_pool_destroy",
    "storage_pool:delete": "storage_pool_undefine",
    "storage_pool:refresh": "storage_pool_refresh",
    "storage_pool:getattr": (
        "storage_pool_lookup_by_name storage_pool_lookup_by_uuid storage_pool_lookup_by_volume "
        "storage_pool_lookup_by_target_path"
    ),
    "storage_pool:read": (
        "storage_pool_get_info storage_pool_get_xml_desc storage_pool_get_autostart storage_pool_is_active "
        "storage_pool_is_persistent"
    ),
    "storage_pool:write": "storage_pool_set_autostart",
    "storage_pool:search_storage_vols": (
        "storage_pool_num_of_volumes storage_pool_list_volumes storage_pool_list_all_volumes"
    ),
    "storage_vol:create": "storage_vol_create_xml",
    "storage_vol:create storage_vol:data_read": "storage_vol_create_xml_from",  # libvirt lets the source be read
    "storage_vol:delete": "storage_vol_delete",
    "storage_vol:getattr": "storage_vol_lookup_by_name storage_vol_lookup_by_key storage_vol_lookup_by_path",
    "storage_vol:read": (
        "storage_vol_get_info storage_vol_get_xml_desc storage_vol_get_path storage_vol_get_info_flags"
    ),
    "domain:block_read": "domain_block_peek",
    "domain:mem_read": "domain_memory_peek",
    "connect:search_node_devices": (
        "node_num_of_devices node_list_devices connect_list_all_node_devices connect_node_device_event_register_any"
    ),
    "node_device:getattr": "node_device_lookup_by_name node_device_lookup_scsi_host_by_wwn",
    "node_device:read": (
        "node_device_get_xml_desc node_device_get_parent node_device_num_of_caps node_device_list_caps "
        "node_device_get_autostart node_device_is_persistent node_device_is_active"
    ),
    "node_device:detach": (
        "node_device_dettach node_device_re_attach node_device_reset node_device_detach_flags"
    ),
    "node_device:write node_device:start": "node_device_create_xml",
    "node_device:stop": "node_device_destroy",
    "connect:search_interfaces": (
        "connect_num_of_interfaces connect_list_interfaces connect_num_of_defined_interfaces "
        "connect_list_defined_interfaces connect_list_all_interfaces"
    ),
    "interface:getattr": "interface_lookup_by_name interface_lookup_by_mac_string",
    "interface:read": "interface_get_xml_desc interface_is_active",
    "interface:write interface:save": "interface_define_xml",
    "interface:delete": "interface_undefine",
    "interface:start": "interface_create",
    "interface:stop": "interface_destroy",
    "connect:write": (
        "connect_domain_xml_from_native connect_domain_xml_to_native node_set_memory_parameters "
        "connect_get_domain_capabilities node_alloc_pages connect_compare_hypervisor_cpu "
        "connect_baseline_hypervisor_cpu connect_set_identity qemu_connect_domain_monitor_event_deregister"
    ),
    "connect:search_secrets": (
        "connect_num_of_secrets connect_list_secrets connect_list_all_secrets connect_secret_event_register_any"
    ),
    "secret:getattr": "secret_lookup_by_uuid secret_lookup_by_usage",
    "secret:write secret:save": "secret_define_xml",
    "secret:read": "secret_get_xml_desc",
    "secret:write": "secret_set_value",
    "secret:read_secure": "secret_get_value",
    "secret:delete": "secret_undefine",
    "domain:write domain:save:!3 domain:save:2": (
        "domain_attach_device_flags domain_detach_device_flags domain_update_device_flags "
        "domain_set_memory_parameters domain_set_memory_flags domain_set_blkio_parameters "
        "domain_set_scheduler_parameters_flags domain_pin_vcpu_flags domain_set_block_io_tune "
        "domain_set_numa_parameters domain_set_interface_parameters domain_set_metadata domain_pin_emulator "
        "domain_set_memory_stats_period domain_pin_iothread domain_add_iothread domain_del_iothread domain_set_vcpu "
        "domain_detach_device_alias domain_set_iothread_params"
    ),
    "storage_vol:format": "storage_vol_wipe storage_vol_wipe_pattern",
    "nwfilter:getattr": "nwfilter_lookup_by_name nwfilter_lookup_by_uuid",
    "nwfilter:read": "nwfilter_get_xml_desc",
    "connect:search_nwfilters": "connect_num_of_nwfilters connect_list_nwfilters connect_list_all_nwfilters",
    "nwfilter:write nwfilter:save": "nwfilter_define_xml nwfilter_define_xml_flags",
    "nwfilter:delete": "nwfilter_undefine",
    "domain:snapshot domain:fs_freeze:64": "domain_snapshot_create_xml",
    "domain:read domain:read_secure:1": (
        "domain_snapshot_get_xml_desc domain_managed_save_get_xml_desc domain_checkpoint_get_xml_desc"
    ),
    "domain:snapshot": "domain_revert_to_snapshot domain_snapshot_delete",
    "domain:write domain:save:!3 domain:save:2 domain:write:8": "domain_set_vcpus_flags",
    "domain:read domain:write:8": "domain_get_vcpus_flags",
    "domain:open_device": "domain_open_console domain_open_channel",
    "storage_vol:data_write": "storage_vol_upload",
    "storage_vol:data_read": "storage_vol_download",
    "domain:inject_nmi": "domain_inject_nmi",
    "domain:screenshot": "domain_screenshot",
    "connect:interface_transaction": (
        "interface_change_begin interface_change_commit interface_change_rollback"
    ),
    "domain:send_input": "domain_send_key",
    "domain:write domain:hibernate": "domain_save_image_define_xml domain_managed_save_define_xml",
    "domain:block_write": (
        "domain_block_pull domain_block_resize domain_block_rebase domain_block_commit domain_block_copy"
    ),
    "domain:reset": "domain_reset",
    "domain:open_graphics": "domain_open_graphics domain_open_graphics_fd",
    "connect:pm_control": "node_suspend_for_duration",
    "storage_vol:resize": "storage_vol_resize",
    "domain:pm_control": "domain_pm_suspend_for_duration domain_pm_wakeup",
    "network:write network:save:!3 network:save:2": "network_update network_set_metadata",
    "domain:fs_trim": "domain_fstrim",
    "domain:send_signal": "domain_send_process_signal",
    "domain:fs_freeze": "domain_fsfreeze domain_fsthaw domain_get_fsinfo",
    "domain:set_time": "domain_set_time",
    "domain:read domain:write:source=1": "domain_interface_addresses",
    "domain:set_password": "domain_set_user_password",
    "nwfilter_binding:getattr": "nwfilter_binding_lookup_by_port_dev",
    "nwfilter_binding:read": "nwfilter_binding_get_xml_desc",
    "nwfilter_binding:create": "nwfilter_binding_create_xml",
    "nwfilter_binding:delete": "nwfilter_binding_delete",
    "connect:search_nwfilter_bindings": "connect_list_all_nwfilter_bindings",
    "network:search_ports": "network_list_all_ports",
    "network_port:getattr": "network_port_lookup_by_uuid",
    "network_port:create": "network_port_create_xml",
    "network_port:read": "network_port_get_parameters network_port_get_xml_desc",
    "network_port:write": "network_port_set_parameters",
    "network_port:delete": "network_port_delete",
    "domain:checkpoint domain:fs_freeze:2": "domain_checkpoint_create_xml",
    "domain:checkpoint": "domain_checkpoint_delete",
    "domain:checkpoint domain:block_write": "domain_backup_begin",
    "node_device:write": "node_device_define_xml node_device_set_autostart",
    "node_device:delete": "node_device_undefine",
    "node_device:start": "node_device_create",
    "connect:search_domains connect:write": "qemu_connect_domain_monitor_event_register",
}

# what one must be allowed on an object to see it in a list or to have it counted
_SHOWN: dict[str, str] = {
    "domain:getattr": (
        "connect_list_defined_domains connect_num_of_defined_domains connect_list_domains connect_num_of_domains "
        "connect_list_all_domains"
    ),
    "network:getattr": (
        "connect_list_defined_networks connect_list_networks connect_num_of_defined_networks connect_num_of_networks "
        "connect_list_all_networks"
    ),
    "storage_pool:getattr": (
        "connect_num_of_storage_pools connect_list_storage_pools connect_num_of_defined_storage_pools "
        "connect_list_defined_storage_pools connect_list_all_storage_pools"
    ),
    "storage_vol:getattr": (
        "storage_pool_num_of_volumes storage_pool_list_volumes storage_pool_list_all_volumes"
    ),
    "node_device:getattr": (
        "node_num_of_devices node_list_devices connect_list_all_node_devices"
    ),
    "interface:getattr": (
        "connect_num_of_interfaces connect_list_interfaces connect_num_of_defined_interfaces "
        "connect_list_defined_interfaces connect_list_all_interfaces"
    ),
    "secret:getattr": (
        "connect_num_of_secrets connect_list_secrets connect_list_all_secrets"
    ),
    "nwfilter:getattr": "connect_num_of_nwfilters connect_list_nwfilters connect_list_all_nwfilters",
    "domain:read": "connect_get_all_domain_stats",
    "nwfilter_binding:getattr": "connect_list_all_nwfilter_bindings",
    "network_port:getattr": "network_list_all_ports",
}
# fmt: on


class Need(NamedTuple):
    """``permission`` is "object:name"; it is needed where ``argument`` has all bits of ``bits`` (or, ``without``, none
    of them; or, ``exact``, is that number). No ``argument``: always."""

    permission: str
    argument: str = ""
    bits: int = 0
    without: bool = False
    exact: bool = False

    def applies(self, args: Mapping[str, Any]) -> bool:
        if not self.argument:
            return True
        value = args.get(self.argument, 0)
        if self.exact:
            return bool(value == self.bits)
        return bool((value & self.bits) == (0 if self.without else self.bits))


def _need(word: str) -> Need:
    kind, permission, *condition = word.split(":")
    name = f"{kind}:{permission}"
    if not condition:
        return Need(name)
    (text,) = condition
    if "=" in text:
        argument, _, value = text.partition("=")
        return Need(name, argument, int(value), exact=True)
    return Need(name, "flags", int(text.lstrip("!")), without=text.startswith("!"))


@cache
def _table() -> dict[str, tuple[Need, ...]]:
    return {
        procedure: tuple(map(_need, needs.split())) for needs, names in _NEEDS.items() for procedure in names.split()
    }


@cache
def _filters() -> dict[str, str]:
    return {procedure: permission for permission, names in _SHOWN.items() for procedure in names.split()}


def needs(row: Procedure) -> tuple[Need, ...] | None:
    """What ``row`` asks for; None where nobody has said, and so nobody may."""
    return _table().get(row.name)


def shown_by(row: Procedure) -> str:
    """The permission that decides what ``row``, a listing, may show; "" where it lists nothing."""
    return _filters().get(row.name, "")


@cache
def every_permission() -> frozenset[str]:
    """All permissions that some procedure asks for."""
    return frozenset(need.permission for row in _table().values() for need in row) | frozenset(_SHOWN)
