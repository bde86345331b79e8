"""All that runs as root: its whole surface is the table of verbs in `server`. `watchdog.hands` is the brain's end."""
