#!/bin/sh
# playwright takes a browser for closed once nobody has its stdout and stderr any more, and waits for that without a limit.
# chrome_crashpad_handler has them too, is no child of the browser's, and may outlive it: so they lead elsewhere.
exec /usr/bin/chromium "$@" >/dev/null 2>&1
