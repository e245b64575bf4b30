"""Claims of Ancona et al. 2018, and whether they hold on what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aopc_monitor import MeanAndError
from recipes.sensitivity_n.found import Found

OF_TABLE_1 = ("gradient_x_input", "integrated_gradients", "lrp", "deeplift", "occlusion")
EXACT, SAME_HEATMAP, SAME_CURVE = 0.999, 0.01, 0.05
# Standard errors; several differences are looked at.
CHANCE = 3.0


@dataclass(frozen=True)
class Verdict:
    """What was found of a claim.

    Attributes:
        text: in numbers.
        holds: whether it is what the claim says.
    """

    text: str
    holds: bool


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes:
        text: what is claimed.
        where: in the paper.
        networks: those that it is about.
        methods: those that it is about.
        judge: finds out whether it holds of one network.
    """

    text: str
    where: str
    networks: tuple[str, ...]
    methods: tuple[str, ...]
    judge: Callable[[Found], Verdict]


def linear_agree(found: Found) -> Verdict:
    """All methods satisfy sensitivity-n at every n."""
    least = min(point.mean for name in OF_TABLE_1 for point in found.curve(name))
    return Verdict(f"least correlation {least:.4f}", least > EXACT)


def same_heatmap(one: str, other: str) -> Callable[[Found], Verdict]:
    """Two heatmaps are the same but for rounding and the stabilizer."""

    def judge(found: Found) -> Verdict:
        apart = found.apart(one, other)
        return Verdict(f"{100 * apart:.2f} % apart", apart < SAME_HEATMAP)

    return judge


def one_feature(found: Found) -> Verdict:
    """Occlusion foretells the removal of one feature."""
    at_one = found.at("occlusion", 1).mean
    return Verdict(f"{at_one:.4f} at n = 1", at_one > EXACT)


def falls(found: Found) -> Verdict:
    """The correlation of occlusion never rises from one n to the next, but for chance."""
    curve, values = found.curve("occlusion"), found.correlations["occlusion"]
    rises = [MeanAndError.of(rise[~rise.isnan()]) for rise in values.diff(dim=1).unbind(dim=1)]
    holds = curve[-1].mean < curve[0].mean and not any(rise.z > CHANCE for rise in rises)
    return Verdict(f"{curve[0].mean:.3f} to {curve[-1].mean:.3f}", holds)


def same_curve(found: Found) -> Verdict:
    """DeepLIFT is about what integrated gradients are."""
    apart = found.farthest_curves("deeplift", "integrated_gradients")
    alike = found.alike("deeplift", "integrated_gradients")
    text = f"curves at most {apart:.3f} apart, heatmaps correlate {alike:.3f}"
    return Verdict(text, apart < SAME_CURVE)


def worse_with_an_offset(found: Found) -> Verdict:
    """LRP foretells less than integrated gradients where f(0) is not 0."""
    difference = found.difference("lrp", "integrated_gradients")
    return Verdict(f"LRP - integrated gradients {difference}", difference.z < -CHANCE)


NONLINEAR = ("mlp_relu", "mlp_tanh", "mlp_sigmoid", "cnn_relu", "text_lstm", "text_cnn")
CLAIMS = (
    Claim(
        "On a linear model gradient x input, integrated gradients, LRP-epsilon, DeepLIFT and "
        "occlusion are equivalent, and satisfy sensitivity-n for all n",
        "section 4",
        ("linear",),
        OF_TABLE_1,
        linear_agree,
    ),
    Claim(
        "LRP-epsilon is gradient x input where ReLU is the only nonlinearity",
        "section 3.1",
        ("mlp_relu", "cnn_relu", "text_cnn"),
        ("lrp", "gradient_x_input"),
        same_heatmap("lrp", "gradient_x_input"),
    ),
    Claim(
        "LRP-epsilon is DeepLIFT with a baseline of zero, without additive biases and where "
        "f(0) = 0",
        "section 3.1",
        ("mlp_tanh",),
        ("lrp", "deeplift"),
        same_heatmap("lrp", "deeplift"),
    ),
    Claim(
        "Occlusion, feature by feature, satisfies sensitivity-1",
        "section 4",
        NONLINEAR,
        ("occlusion",),
        one_feature,
    ),
    Claim(
        "The correlation of occlusion falls as n grows",
        "section 4, Fig. 3",
        NONLINEAR,
        ("occlusion",),
        falls,
    ),
    Claim(
        "DeepLIFT is a good and faster approximation of integrated gradients",
        "section 4, Fig. 3",
        # Gates multiply, and DeepLIFT's rule is one of sums.
        tuple(name for name in NONLINEAR if name != "text_lstm"),
        ("deeplift", "integrated_gradients"),
        same_curve,
    ),
    Claim(
        "LRP-epsilon is not suited to nonlinearities with f(0) other than 0, as the sigmoid",
        "section 3",
        ("mlp_sigmoid",),
        ("lrp", "integrated_gradients"),
        worse_with_an_offset,
    ),
)


def judged(found: Mapping[str, Found]) -> list[list[str]]:
    """Rows of a table: claim, where, network, what was found, whether it holds.

    Claims about networks or methods that were not measured are left out.

    Args:
        found: by network.
    """
    rows = []
    for claim in CLAIMS:
        for network in claim.networks:
            if network in found and set(claim.methods) <= set(found[network].correlations):
                verdict = claim.judge(found[network])
                rows.append(
                    [
                        claim.text,
                        claim.where,
                        network,
                        verdict.text,
                        "holds" if verdict.holds else "does not hold",
                    ]
                )
    return rows
