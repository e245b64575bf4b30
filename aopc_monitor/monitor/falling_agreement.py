"""The warning sign: agreement has fallen while all that comes of probabilities goes on rising."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aopc_monitor.monitor.loggers import key

# How many standard errors below its maximum, and at how many looks in a row.
FALLEN_BY, IN_A_ROW = 2.0, 2

Record = Mapping[str, float]


@dataclass(frozen=True)
class FallingAgreement:
    """Where agreement was highest, and where it was first seen to have fallen.

    Attributes:
        best: the look of the maximum.
        seen: the look at which the sign was complete.
        agreement: key of the agreement.
        rising: keys of what went on rising.
    """

    best: Record
    seen: Record
    agreement: str
    rising: tuple[str, ...]

    def line(self) -> str:
        """For people."""
        rose = [f"{name} {self.best[name]:.3f} to {self.seen[name]:.3f}" for name in self.rising]
        error = self.best[f"{self.agreement}_sem"]
        return (
            f"warning sign at step {int(self.seen['step'])}: {self.agreement} has fallen from its "
            f"maximum at step {int(self.best['step'])}, {self.best[self.agreement]:.3f} ± "
            f"{error:.3f} to {self.seen[self.agreement]:.3f}, while {' and '.join(rose)} went on "
            "rising: the network may be memorising what is not in the images, and the weights of "
            f"step {int(self.best['step'])} be the better ones"
        )


def falling_agreement(
    history: Iterable[Record], prefix: str, probe: str, heatmap: str
) -> FallingAgreement | None:
    """The first time that agreement has fallen while AOPC and confidence went on rising.

    It has fallen where it is below its maximum so far by more than two standard errors, the larger
    of those of the two looks, at two looks in a row; the others rise where both are above what they
    were at that maximum.

    Args:
        history: records of a monitor, in their order.
        prefix: first part of the log keys.
        probe: name of the probe, "" for the only one.
        heatmap: whose AOPC.

    Example:
        >>> def look(step, agreement, rest):
        ...     return {"step": step, "aopc/agreement": agreement, "aopc/agreement_sem": 0.02,
        ...             "aopc/lrp": rest, "aopc/confidence": rest}
        >>> looks = [look(1, 0.3, 0.4), look(2, 0.5, 0.6), look(3, 0.4, 0.7), look(4, 0.41, 0.8)]
        >>> found = falling_agreement(looks, "aopc", "", "lrp")
        >>> found.best["step"], found.seen["step"]
        (2, 4)
    """
    agreement = key(prefix, probe, "agreement")
    rising = (key(prefix, probe, heatmap), key(prefix, probe, "confidence"))
    best: Record | None = None
    in_a_row = 0
    for record in history:
        if any(name not in record for name in (agreement, f"{agreement}_sem", *rising)):
            continue
        if best is None or record[agreement] > best[agreement]:
            best, in_a_row = record, 0
            continue
        error = max(best[f"{agreement}_sem"], record[f"{agreement}_sem"])
        has_fallen = best[agreement] - record[agreement] > FALLEN_BY * error
        goes_on = all(record[name] > best[name] for name in rising)
        in_a_row = in_a_row + 1 if has_fallen and goes_on else 0
        if in_a_row == IN_A_ROW:
            return FallingAgreement(best, record, agreement, rising)
    return None
