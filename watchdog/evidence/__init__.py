"""What the kernel says of a service: one file a source, all passive but `epollfd`. Standard library only."""
