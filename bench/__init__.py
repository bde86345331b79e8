"""`make bench`: what the watchdog costs and how fast it heals, beside the programs that people use instead.

One file a section (`__main__.SECTIONS`); what they share stands in a file named for it. Rules: both sides do the same
work, back to back, in one run; nothing that is measured depends on what a tool says of itself; a program that is
missing is told with its Debian package, and fails the section.
"""
