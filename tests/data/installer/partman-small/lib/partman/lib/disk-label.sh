# What partman-auto asks for before it cuts a whole disk.

# Once for all the disks (as partman names them): may the partition tables that they have go? No is a failure.
prepare_new_labels () {
	local dev table asked=
	for dev in "$@"; do
		cd $dev
		open_dialog GET_LABEL_TYPE
		read_line table
		close_dialog
		case "$table" in unknown|loop) ;; *) asked=yes ;; esac
	done
	[ "$asked" ] || return 0
	db_input critical partman-partitioning/confirm_write_new_label || true
	db_go || return 1
	db_get partman-partitioning/confirm_write_new_label
	[ "$RET" = true ]
}

# A new table on the disk; MBR has room for 2 TiB.
create_new_label () {
	local table=msdos
	cd $1
	if [ -d /sys/firmware/efi ] || ! longint_le "$(cat size)" 2199023255552; then
		table=gpt
	fi
	open_dialog NEW_LABEL $table
	close_dialog
	device_cleanup
}

device_cleanup () {
	local part
	for part in [0-9]*-[0-9]*; do
		[ ! -d "$part" ] || rm -r "$part"
	done
	rm -f partition_tree_cache
}
