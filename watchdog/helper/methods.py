"""A nudge by the service's methods, in their order: the next one only where the one before can't be used here.

One that reached a thread is not followed by another, and neither is one that had nothing to reach: the other would stop
the whole service for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from watchdog.evidence.rights import NotPermitted, YamaForbids
from watchdog.helper.frozen import CannotFreeze
from watchdog.helper.nudge import Nudge, nudge
from watchdog.model import Epoch, Method, Outcome, Performed, Rung
from watchdog.target import Gone, Refusal, Target, processes

NO_RIGHTS = (NotPermitted, YamaForbids)


@dataclass(frozen=True, slots=True)
class Tried:
    """What one method came to; `refusal` is what kept it from reaching anything, if a refusal did."""

    method: Method
    performed: Performed
    refusal: Refusal | None = None

    @property
    def unusable(self) -> bool:
        """Whether it can't be used here, by lack of rights or by its nature."""
        return isinstance(self.refusal, (*NO_RIGHTS, CannotFreeze))

    def told(self) -> dict[str, Any]:
        """For the detail of the whole."""
        told: dict[str, Any] = {
            "method": self.method.value,
            "outcome": self.performed.outcome.value,
            "reason": self.performed.reason,
        }
        if self.refusal is not None:
            told |= {"refusal": type(self.refusal).__name__, "hint": self.refusal.hint}
        if self.performed.outcome in (Outcome.DONE, Outcome.TIMED_OUT):
            told["stopped_seconds"] = self.performed.detail["longest_stop_seconds"]
        return told


def nudge_by_methods(
    target: Target, epoch: Epoch, never: frozenset[int], directory: str, *, address: str | None = None
) -> Performed:
    """Nudge the service that `epoch` is of. `directory` is where a freeze is recorded; empty: there is no freeze.

    Raises a `Refusal` where the process is not, or no longer, of the service.
    """
    epochs = processes(target, epoch)
    tried: list[Tried] = []
    for method in target.nudge.methods:
        if method is Method.PTRACE:
            tried.append(_by_ptrace(epochs, never))
        else:
            tried.append(_by_freeze(target, epoch, never, directory, address))
        if not tried[-1].unusable:
            break
    return _whole(tried)


def _by_ptrace(epochs: tuple[Epoch, ...], never: frozenset[int]) -> Tried:
    done = nudge(epochs, never)
    refusals = [skipped.refusal for skipped in done.skipped] if not done.reached else []
    first = next((refusal for refusal in refusals if isinstance(refusal, NO_RIGHTS)), None)
    return Tried(Method.PTRACE, done.performed(), first or next(iter(refusals), None))


def _by_freeze(target: Target, epoch: Epoch, never: frozenset[int], directory: str, address: str | None) -> Tried:
    blank = Nudge().detail()
    try:
        if not directory:
            raise CannotFreeze("there is no place to record a freeze")
        from watchdog.helper.freeze import freeze  # where it is used only: it brings D-Bus with it

        done = freeze(target, epoch, never, directory, address=address)
    except Refusal as refusal:
        outcome = Outcome.GONE if isinstance(refusal, Gone) else Outcome.REFUSED
        return Tried(Method.FREEZE, Performed(Rung.NUDGE, outcome, str(refusal), blank), refusal)
    detail = {**blank, **done.detail, "longest_stop_seconds": done.detail.get("stopped_seconds", 0.0)}
    detail.pop("stopped_seconds", None)
    return Tried(Method.FREEZE, Performed(Rung.NUDGE, done.outcome, done.reason, detail))


def _whole(tried: list[Tried]) -> Performed:
    """The outcome of the last; where all were refused, that of the first, with the reasons of all."""
    first, last = tried[0], tried[-1]
    detail = {
        **first.performed.detail,
        **({} if last.refusal is not None else last.performed.detail),
        "skipped": first.performed.detail["skipped"],
        "methods": [each.told() for each in tried],
    }
    if len(tried) == 1:
        return Performed(Rung.NUDGE, first.performed.outcome, first.performed.reason, detail)
    refusals = "; ".join(f"{each.method}: {each.performed.reason}" for each in tried if each.refusal is not None)
    if last.refusal is not None and last.performed.outcome is Outcome.REFUSED:
        return Performed(Rung.NUDGE, first.performed.outcome, refusals, detail)
    reason = last.performed.reason if last.refusal is None else f"{last.method}: {last.performed.reason}"
    if last.refusal is None:
        reason += f" ({refusals})"
    return Performed(Rung.NUDGE, last.performed.outcome, reason, detail)
