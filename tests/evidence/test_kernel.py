"""The table of kernels that lose wake-ups, asked as the distributions name theirs."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from watchdog.evidence.kernel import BUGS, Bug, Level, advisories, running

DEBIAN_11 = "#1 SMP Debian 5.10.218-1 (2024-06-01)"
levels = st.tuples(st.integers(4, 6), st.integers(0, 20), st.integers(0, 300))


def ids(release: str, version: str = "#1 SMP PREEMPT Thu Dec 1 00:00:00 UTC 2022") -> set[str]:
    """Which bugs the kernel is known to have."""
    return {advisory.id for advisory in advisories(release, version)}


@pytest.mark.parametrize(
    ("release", "known"),
    [
        ("5.4.210", {"timed-out"}),
        ("5.4.211", {"autoremove", "timed-out"}),
        ("5.4.225", {"autoremove", "timed-out"}),
        ("5.4.226", set()),
        ("5.4.219-126.411.amzn2.x86_64", {"autoremove", "timed-out"}),
        ("5.4.212-0504212-generic", {"autoremove", "timed-out"}),
        ("5.3.7-301.fc31.x86_64", {"timed-out", "rwlock"}),
        ("5.4.27-arch1-1", {"timed-out", "rwlock"}),
        ("5.4.28", {"timed-out"}),
        ("5.5.11", {"timed-out", "rwlock", "overlooked"}),
        ("5.5.12", {"timed-out", "overlooked"}),
        ("5.6.0-rc7+", {"timed-out", "rwlock", "overlooked"}),
        ("5.6.0", {"timed-out", "overlooked"}),
        ("5.7.0", {"timed-out"}),
        ("5.10.3", {"timed-out"}),
        ("5.10.4", set()),
        ("4.19.0", set()),
        ("5.0.0", {"timed-out"}),
        ("6.18.44-fc-v669", set()),
    ],
)
def test_a_kernel_is_judged_by_its_stable_level(release: str, known: set[str]) -> None:
    assert ids(release) == known


def test_debian_tells_the_level_in_the_version() -> None:
    assert ids("5.10.0-30-amd64", DEBIAN_11) == set()
    assert ids("5.10.0-1-amd64", "#1 SMP Debian 5.10.3-1 (2020-12-27)") == {"timed-out"}
    assert ids("5.4.0-0.bpo.4-amd64", "#1 SMP Debian 5.4.19-1~bpo10+1 (2020-03-09)") == {"timed-out", "rwlock"}


@pytest.mark.parametrize("abi", [132, 133, 134])
def test_ubuntu_s_kernels_that_have_the_postmortem_s_bug_are_known_by_their_number(abi: int) -> None:
    assert ids(f"5.4.0-{abi}-generic", "#148~18.04.1-Ubuntu SMP Mon Oct 24 20:41:14 UTC 2022") == {"autoremove"}
    assert ids(f"5.4.0-{abi}-generic", f"Ubuntu 5.4.0-{abi}.148-generic 5.4.212\n") == {"autoremove", "timed-out"}


def test_the_kernel_of_the_postmortem_is_known() -> None:
    assert ids("5.4.0-1095-azure", "#101~18.04.1-Ubuntu SMP") == {"autoremove"}


def test_ubuntu_s_fix_came_before_the_stable_level_that_has_it() -> None:
    assert ids("5.4.0-135-generic", "Ubuntu 5.4.0-135.152-generic 5.4.212\n") == set()


def test_of_a_derivative_of_ubuntu_s_nothing_is_claimed() -> None:
    (first, _second) = advisories("5.4.0-1090-aws", "Ubuntu 5.4.0-1090.98-aws 5.4.212\n")
    assert first.id == "autoremove"
    assert first.text.startswith("perhaps, ")


@pytest.mark.parametrize(
    "release",
    [
        "5.4.0-131-generic",
        "5.4.0-1096-azure",
        "5.10.0-30-amd64",
        "5.4.17-2136.312.3.4.el7uek.x86_64",
        "4.18.0-553.el8_10.x86_64",
        "5.14.0-362.el9.x86_64",
        "5.3.18-150300.59.106-default",
        "",
        "5",
        "linux",
    ],
)
def test_where_the_number_hides_the_level_nothing_is_guessed(release: str) -> None:
    assert ids(release) == set()


def test_the_running_kernel_is_judged() -> None:
    assert set(running()) <= {bug.advisory for bug in BUGS}
    assert os.uname().sysname == "Linux"


@given(st.text(), st.text())
@example("5.4.0-" + "9" * 5000 + "-generic", "Ubuntu x 5.4." + "9" * 5000)
@example("5.4.٢", "Debian 5.4.٢-1")
def test_any_name_gets_an_answer(release: str, version: str) -> None:
    assert isinstance(advisories(release, version), tuple)


@given(levels)
def test_a_kernel_that_names_its_level_gets_the_same_answer_however_it_is_named(level: Level) -> None:
    number = ".".join(map(str, level))
    plain = ids(number)
    assert ids("6.1.0-22-amd64", f"#1 SMP Debian {number}-1 (2022-12-01)") == plain
    assert ids(f"{number}-arch1-1") == plain


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.advisory.id)
def test_the_ranges_of_a_bug_are_in_order_and_apart(bug: Bug) -> None:
    edges = [edge for ends in bug.ranges for edge in ends]
    assert edges == sorted(set(edges))


@given(st.sampled_from(BUGS), st.integers(0, 20))
def test_a_bug_comes_and_goes_at_most_once_in_a_series(bug: Bug, minor: int) -> None:
    known = [bug.has((5, minor, patch)) for patch in range(301)]
    changes = [later for earlier, later in itertools.pairwise(known) if earlier != later]
    assert changes in ([], [True], [False], [True, False])


@given(st.sampled_from(BUGS), levels.filter(lambda level: level >= (5, 11, 0)))
def test_kernels_from_5_11_on_have_none(bug: Bug, level: Level) -> None:
    assert not bug.has(level)
