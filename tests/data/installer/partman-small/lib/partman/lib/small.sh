# "PATH ID METHOD" of each partition that is used, a line each, with the disk's folder before them.
used_partitions () {
	local dev num id size type fs path name
	for dev in $DEVICES/*; do
		[ -d "$dev" ] || continue
		cd $dev
		open_dialog PARTITIONS
		while { read_line num id size type fs path name; [ "$id" ]; }; do
			if [ "$fs" != free ] && [ -f $id/method ]; then
				echo "$dev $path $id $(cat $id/method)"
			fi
		done
		close_dialog
	done
}
