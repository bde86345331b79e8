"""From a name to pinned processes: which processes a service has, and which life of them is meant.

A PID alone is no name, it is used again; a PID with its start time is one (`Epoch`). Next to nothing here needs a
privilege (only `match` does), so the brain, the helper and `epoll-watchdog nudge` all ask the same questions here, and
the helper trusts nobody else's answer. No pathlib: it would cost the resident helper 1 MiB.
"""

from watchdog.target.cgroup import cgroup_epoch as cgroup_epoch
from watchdog.target.cgroups import cgroup_directory as cgroup_directory
from watchdog.target.cgroups import cgroup_mounts as cgroup_mounts
from watchdog.target.cgroups import cgroup_paths as cgroup_paths
from watchdog.target.held import Held as Held
from watchdog.target.match import match_epoch as match_epoch
from watchdog.target.never import check_process as check_process
from watchdog.target.never import is_never_touched as is_never_touched
from watchdog.target.never import untouchable_part as untouchable_part
from watchdog.target.pidfile import Pidfile as Pidfile
from watchdog.target.pidfile import pidfile_epoch as pidfile_epoch
from watchdog.target.process import TICKS as TICKS
from watchdog.target.process import age as age
from watchdog.target.process import check_alive as check_alive
from watchdog.target.process import contents as contents
from watchdog.target.process import descendants as descendants
from watchdog.target.process import ended as ended
from watchdog.target.process import owner as owner
from watchdog.target.process import start_time as start_time
from watchdog.target.process import stat_fields as stat_fields
from watchdog.target.service import cgroup_of as cgroup_of
from watchdog.target.service import check_allowed as check_allowed
from watchdog.target.service import check_runs as check_runs
from watchdog.target.service import find as find
from watchdog.target.service import processes as processes
from watchdog.target.unit import resolved as resolved
from watchdog.target.unit import unit_cgroup as unit_cgroup
from watchdog.target.unit import unit_of as unit_of
from watchdog.target.unit import unit_pids as unit_pids
from watchdog.target.words import CantLook as CantLook
from watchdog.target.words import Gone as Gone
from watchdog.target.words import Match as Match
from watchdog.target.words import NeverATarget as NeverATarget
from watchdog.target.words import NotOfService as NotOfService
from watchdog.target.words import NotOfUnit as NotOfUnit
from watchdog.target.words import Nudging as Nudging
from watchdog.target.words import PidfileUnusable as PidfileUnusable
from watchdog.target.words import Refusal as Refusal
from watchdog.target.words import SeveralCgroups as SeveralCgroups
from watchdog.target.words import SeveralFit as SeveralFit
from watchdog.target.words import Target as Target
