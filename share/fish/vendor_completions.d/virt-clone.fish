# virt-clone completes as virt-install does.

source (status dirname)/virt-install.fish
