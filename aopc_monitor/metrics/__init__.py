"""How heatmaps are scored: the metrics, the functions beneath them, and estimates over a data set.

Example:
    >>> from aopc_monitor import metrics
    >>> [metric.__name__ for metric in metrics.METRICS][:3]
    ['AOPC', 'SymmetricRelevanceGain', 'Deletion']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aopc_monitor.metrics.agreement import Agreement as Agreement
from aopc_monitor.metrics.aopc import AOPC as AOPC
from aopc_monitor.metrics.aopc_estimate import AOPCEstimate as AOPCEstimate
from aopc_monitor.metrics.aopc_estimate import difference as difference
from aopc_monitor.metrics.base import MeanOverImages as MeanOverImages
from aopc_monitor.metrics.base import SumsOverImages as SumsOverImages
from aopc_monitor.metrics.complexity import HeatmapComplexity as HeatmapComplexity
from aopc_monitor.metrics.deletion_insertion import Deletion as Deletion
from aopc_monitor.metrics.deletion_insertion import Insertion as Insertion
from aopc_monitor.metrics.estimate import estimate_aopc as estimate_aopc
from aopc_monitor.metrics.evaluation import Evaluation as Evaluation
from aopc_monitor.metrics.evaluation import evaluate as evaluate
from aopc_monitor.metrics.evaluation import num_orders as num_orders
from aopc_monitor.metrics.fidelity import FidelityMinus as FidelityMinus
from aopc_monitor.metrics.fidelity import FidelityPlus as FidelityPlus
from aopc_monitor.metrics.fixed_reference import FixedReference as FixedReference
from aopc_monitor.metrics.functional.agreement import cohen_kappa as cohen_kappa
from aopc_monitor.metrics.functional.agreement import (
    cohen_kappa_standard_error as cohen_kappa_standard_error,
)
from aopc_monitor.metrics.functional.agreement import contingency as contingency
from aopc_monitor.metrics.functional.agreement import disagreement as disagreement
from aopc_monitor.metrics.functional.agreement import mutual_information as mutual_information
from aopc_monitor.metrics.functional.aopc import area_over_curve as area_over_curve
from aopc_monitor.metrics.functional.aopc import (
    area_over_perturbation_curve as area_over_perturbation_curve,
)
from aopc_monitor.metrics.functional.aopc import results_of_orders as results_of_orders
from aopc_monitor.metrics.functional.aopc_result import AOPCResult as AOPCResult
from aopc_monitor.metrics.functional.bounds import AOPCBounds as AOPCBounds
from aopc_monitor.metrics.functional.bounds import aopc_bounds as aopc_bounds
from aopc_monitor.metrics.functional.certainty import (
    average_thresholded_confidence as average_thresholded_confidence,
)
from aopc_monitor.metrics.functional.certainty import confidence as confidence
from aopc_monitor.metrics.functional.certainty import cot as cot
from aopc_monitor.metrics.functional.certainty import mano as mano
from aopc_monitor.metrics.functional.certainty import negative_entropy as negative_entropy
from aopc_monitor.metrics.functional.certainty import nuclear_norm as nuclear_norm
from aopc_monitor.metrics.functional.clean_batch import CleanBatch as CleanBatch
from aopc_monitor.metrics.functional.complexity import file_size as file_size
from aopc_monitor.metrics.functional.complexity import grey_levels as grey_levels
from aopc_monitor.metrics.functional.complexity import shannon_entropy as shannon_entropy
from aopc_monitor.metrics.functional.deletion_accuracy import DeletionAccuracy as DeletionAccuracy
from aopc_monitor.metrics.functional.deletion_insertion import DeletionMeasure as DeletionMeasure
from aopc_monitor.metrics.functional.deletion_insertion import InsertionMeasure as InsertionMeasure
from aopc_monitor.metrics.functional.deletion_insertion import deletion as deletion
from aopc_monitor.metrics.functional.deletion_insertion import insertion as insertion
from aopc_monitor.metrics.functional.fidelity import FidelityMinusMeasure as FidelityMinusMeasure
from aopc_monitor.metrics.functional.fidelity import FidelityPlusMeasure as FidelityPlusMeasure
from aopc_monitor.metrics.functional.fidelity import fidelity_minus as fidelity_minus
from aopc_monitor.metrics.functional.fidelity import fidelity_plus as fidelity_plus
from aopc_monitor.metrics.functional.persistence import heatmap_persistence as heatmap_persistence
from aopc_monitor.metrics.functional.rationales import (
    ComprehensivenessMeasure as ComprehensivenessMeasure,
)
from aopc_monitor.metrics.functional.rationales import SufficiencyMeasure as SufficiencyMeasure
from aopc_monitor.metrics.functional.rationales import comprehensiveness as comprehensiveness
from aopc_monitor.metrics.functional.rationales import sufficiency as sufficiency
from aopc_monitor.metrics.functional.removal import RemovalMeasure as RemovalMeasure
from aopc_monitor.metrics.functional.removal import RemovalResult as RemovalResult
from aopc_monitor.metrics.functional.removal import Removed as Removed
from aopc_monitor.metrics.functional.removal import results_of_removals as results_of_removals
from aopc_monitor.metrics.functional.saco import SaCoMeasure as SaCoMeasure
from aopc_monitor.metrics.functional.sensitivity_n import SensitivityNResult as SensitivityNResult
from aopc_monitor.metrics.functional.sensitivity_n import results_of_subsets as results_of_subsets
from aopc_monitor.metrics.functional.subsets import SubsetChoices as SubsetChoices
from aopc_monitor.metrics.functional.subsets import subset_sizes as subset_sizes
from aopc_monitor.metrics.functional.survival import Survival as Survival
from aopc_monitor.metrics.rationales import Comprehensiveness as Comprehensiveness
from aopc_monitor.metrics.rationales import Sufficiency as Sufficiency
from aopc_monitor.metrics.reference_classes import ReferenceClasses as ReferenceClasses
from aopc_monitor.metrics.relevance_gain import SymmetricRelevanceGain as SymmetricRelevanceGain
from aopc_monitor.metrics.removal_metric import RemovalMetric as RemovalMetric
from aopc_monitor.metrics.saco import SaCo as SaCo
from aopc_monitor.metrics.sensitivity_n import SensitivityN as SensitivityN
from aopc_monitor.network.execution import Execution as Execution
from aopc_monitor.utilities.statistics import MeanAndError as MeanAndError
from aopc_monitor.utilities.statistics import mean_and_sem as mean_and_sem

# Last: the functions, and not the modules, which have the same names.
from aopc_monitor.metrics.functional.sensitivity_n import (  # isort: skip
    sensitivity_n as sensitivity_n,
)

from aopc_monitor.metrics.functional.nearest_labels import (  # isort: skip
    nearest_labels as nearest_labels,
)

from aopc_monitor.metrics.functional.survival import (  # isort: skip
    survival as survival,
)

from aopc_monitor.metrics.functional.deletion_accuracy import (  # isort: skip
    deletion_accuracy as deletion_accuracy,
)

from aopc_monitor.metrics.functional.removal_measures import (  # isort: skip
    removal_measures as removal_measures,
)

from aopc_monitor.metrics.functional.saco import saco as saco  # isort: skip

# A metric is made known by its row here, and by nothing else.
METRICS: tuple[type[SumsOverImages], ...] = (
    AOPC,
    SymmetricRelevanceGain,
    Deletion,
    Insertion,
    Comprehensiveness,
    Sufficiency,
    SaCo,
    FidelityPlus,
    FidelityMinus,
    SensitivityN,
    HeatmapComplexity,
    Agreement,
)

# A type checker cannot follow a computed list, and takes what is imported as `name as name`.
if not TYPE_CHECKING:
    __all__ = sorted({
        *(metric.__name__ for metric in METRICS),
        *("METRICS", "MeanOverImages", "SumsOverImages"),
        *("Execution", "MeanAndError", "mean_and_sem"),
        *("AOPCResult", "area_over_curve", "area_over_perturbation_curve", "results_of_orders"),
        *("AOPCEstimate", "difference", "estimate_aopc", "CleanBatch"),
        *("Evaluation", "evaluate", "num_orders", "AOPCBounds", "aopc_bounds"),
        *("SensitivityNResult", "sensitivity_n", "subset_sizes"),
        *("SubsetChoices", "results_of_subsets"),
        *("DeletionAccuracy", "deletion_accuracy"),
        *("cohen_kappa", "cohen_kappa_standard_error", "contingency"),
        *("disagreement", "mutual_information", "nearest_labels"),
        *("average_thresholded_confidence", "confidence", "negative_entropy"),
        *("cot", "mano", "nuclear_norm"),
        *("Survival", "survival", "heatmap_persistence"),
        *("RemovalMetric", "RemovalMeasure", "RemovalResult", "Removed"),
        *("removal_measures", "results_of_removals"),
        *("DeletionMeasure", "InsertionMeasure", "deletion", "insertion"),
        *("ComprehensivenessMeasure", "SufficiencyMeasure", "comprehensiveness", "sufficiency"),
        *("SaCoMeasure", "saco"),
        *("FidelityPlusMeasure", "FidelityMinusMeasure", "fidelity_plus", "fidelity_minus"),
        *("FixedReference", "ReferenceClasses"),
        *("file_size", "grey_levels", "shannon_entropy"),
    })  # fmt: skip
