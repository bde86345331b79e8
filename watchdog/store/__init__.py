"""What outlives the daemon: SQLite, and the only SQL of the project.

Rules of this room. One transaction holds all that one step led to: the new state with its pending action and spent
budget, the records, the letters to the alert channels, and the entry (what `step` was called with, for `replay`) with
the case that was diagnosed. It is on disk (synchronous=FULL) before anybody acts. SQLite has a thread of its own and
every call a deadline, so a full or hung disk never stops the guarding; it raises `StoreUnwritable`, and the next call
tries again. Letters of a commit that failed are kept in memory and handed out like the others, until a later commit
writes them: everyone is told, unless the daemon dies in between. What is kept is bounded (`keeping.py`; `room.py`).

Times are stored as the wall clock, for people and across boots, but in the state and in entries and cases, which keep
CLOCK_BOOTTIME; the state together with the boot it belongs to: `load` carries it over a reboot.
"""

from watchdog.recording import Entry, Recorded
from watchdog.store.disk import DEADLINE, StoreUnwritable
from watchdog.store.incidents import StoredIncident, StoredRecord
from watchdog.store.keeping import KEPT_INCIDENTS, Keep
from watchdog.store.outbox import PARTLY, Letter
from watchdog.store.reboot import shifted
from watchdog.store.room import Squeezed
from watchdog.store.standing import Stood
from watchdog.store.store import KEPT_UNSAVED, Commit, Store

__all__ = [
    "DEADLINE",
    "KEPT_INCIDENTS",
    "KEPT_UNSAVED",
    "PARTLY",
    "Commit",
    "Entry",
    "Keep",
    "Letter",
    "Recorded",
    "Squeezed",
    "Stood",
    "Store",
    "StoreUnwritable",
    "StoredIncident",
    "StoredRecord",
    "shifted",
]
