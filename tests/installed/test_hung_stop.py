"""A stop that hangs for ever: TimeoutStopSec=0 of Debian's redis is infinite, and a stalled redis ignores SIGTERM.

The watchdog takes 90 s in its place, systemd's own default. That goes on in a machine of its own while the other tests
run (`conftest.hung`); here its end is awaited.
"""

from __future__ import annotations

from tests.installed.conftest import Hung

PATIENCE_S = 160.0  # 90 for the stop, 10 for the start, and what the rest takes on a busy host


def test_a_stop_that_hangs_for_ever_is_ended_within_the_rung_and_redis_runs_anew(hung: Hung) -> None:
    site, redis = hung.site, hung.site.redis
    incident = site.wait_told(redis, "resolved", within_s=PATIENCE_S)
    [restarted] = [record for record in incident["timeline"] if record["kind"] == "restarted"]
    assert restarted["detail"]["outcome"] == "done"
    assert restarted["detail"]["killed"] is True
    after = site.machine.show(redis.unit, "InvocationID")
    assert restarted["detail"]["new_invocation_id"] == after != hung.invocation_id
    assert redis.answers()
    letters = site.letters_until("resolved", 10)
    assert [letter["kind"] for letter in letters if letter["kind"] == "restarted"] == ["restarted"]
