"""`python -m watchdog` is `epoll-watchdog`."""

from watchdog.cli import main

main(prog_name="epoll-watchdog")
