"""What a check of a heatmap found, and one line of it for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OperationUse:
    """An operation that the images passed on their way to the outputs.

    Attributes:
        name: its plain name.
        rule: what its backward pass was, or "gradient (no rule)".
        count: how often it was called.
    """

    name: str
    rule: str
    count: int


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
        heatmap: the heatmap.
        operations: what the forward pass used; empty for heatmaps that are no backward pass.
        without_rule: names of operations without a rule that relevance passed through.
        conservation_error: mean over images of `|sum of relevance - score| / |score|`, for LRP; NaN
            where every score is 0, None for other heatmaps.
        absorbed: the mean share of the score that biases and other added constants took, for LRP.
        leak: the mean share of the score that nothing accounts for: not pixels, not constants, and
            not the formula of a rule, such as its stabiliser; None where rules keep no account.
        forward_difference: largest difference between outputs with and without the heatmap's
            engine, in units of the largest output; None for heatmaps that are no backward pass.
        problems: what makes the heatmap something else than its name says; empty if all is well.
        unit: what locations of the inputs are called.
    """

    heatmap: str
    operations: tuple[OperationUse, ...]
    without_rule: tuple[str, ...]
    conservation_error: float | None
    absorbed: float | None
    leak: float | None
    forward_difference: float | None
    problems: tuple[str, ...]
    unit: str = "pixels"

    @property
    def is_fine(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def line(self) -> str:
        """One line for people."""
        if self.problems:
            return f"{self.heatmap}: WARNING: {'; '.join(self.problems)}"
        parts = [f"{self.heatmap}: fine"]
        if self.operations:
            count = sum(use.count for use in self.operations)
            parts.append(f"{count} calls of {len(self.operations)} operations understood")
        if self.conservation_error is not None:
            parts.append(
                f"what reaches the {self.unit} misses the score by "
                f"{self.conservation_error:.2g} of it (mean size over images), and biases and "
                f"other constants take {self.absorbed:.2g} of it (mean with the sign)"
            )
        return ", ".join(parts)

    def __str__(self) -> str:
        width = max((len(use.name) for use in self.operations), default=0)
        rows = [f"  {use.name:<{width}} {use.count:>5} x  {use.rule}" for use in self.operations]
        return "\n".join([self.line(), *rows])
