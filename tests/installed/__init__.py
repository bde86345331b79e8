"""The package as its users get it: installed in a booted systemd, guarding Debian's own nginx and redis units."""
