"""Guards services on Linux against lost epoll wake-ups: finds the dark one, nudges it, tells what was done."""

__version__ = "0.1.0"
