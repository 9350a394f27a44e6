# virt-xml completes as virt-install does.

source (status dirname)/virt-install.fish
