"""AOPCMonitor: what people give it, ask it, and keep of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

from aopc_monitor.heatmaps import Heatmap, named_heatmaps
from aopc_monitor.metrics.evaluation import Evaluation
from aopc_monitor.monitor.batch_reading import BatchReading, label_kind_of
from aopc_monitor.monitor.cost import Cost, measured
from aopc_monitor.monitor.hooks import Hooks
from aopc_monitor.monitor.loaders import BLOCK_SIZE
from aopc_monitor.monitor.measurement import Measurement
from aopc_monitor.monitor.probe import Probe, named_sources
from aopc_monitor.monitor.reference import checked_reference
from aopc_monitor.monitor.schedule import checked_shown, schedule_of
from aopc_monitor.monitor.settings import MonitorSettings, execution_while_training
from aopc_monitor.network.scores import Score
from aopc_monitor.network.targets import TargetChoice
from aopc_monitor.perturbation.data_range import DataRange
from aopc_monitor.perturbation.input_kinds import checked_inputs
from aopc_monitor.perturbation.protocol import StepIs
from aopc_monitor.perturbation.protocol_choices import SUGGESTED_SAMPLED_STEPS, ProtocolChoices
from aopc_monitor.perturbation.region_map import RegionRelevance
from aopc_monitor.utilities.checks import checked_seed


class AOPCMonitor(Hooks):
    """Logs, while a network trains, how strongly its predictions rest on located evidence.

    For a fixed probe of images, labels not needed, it logs the AOPC of one or several heatmaps
    (Samek et al. 2017, eq. 12) with its random-order control: when training starts and ends, every
    `every_n_steps` optimizer steps, and at each validation. Training is bit-identical to training
    without it.

    Logged, the first six in units of the score (by default probability, from -1 to 1):

    - `aopc/HEATMAP`: AOPC of the probe;
    - `aopc/random`: AOPC of a random order of the same images under the same noise;
    - `aopc/HEATMAP_gain`: their difference, what the heatmap knows more than chance;
    - `aopc/HEATMAP_sem`: standard error of `aopc/HEATMAP` over images;
    - `aopc/HEATMAP_lerf`: area with the least relevant regions first, only with `lerf`;
    - `aopc/HEATMAP_srg`: `aopc/HEATMAP` minus that, the symmetric relevance gain (Bluecher et al.
      2024), only with `lerf`;
    - `aopc/HEATMAP_survival`, `aopc/random_survival`, `aopc/HEATMAP_survival_lerf`: share of the
      perturbed images that are still predicted as the clean one, in each order, and
      `aopc/HEATMAP_survival_gap`, least minus most relevant first; only with `lerf`;
    - `aopc/agreement`, `aopc/agreement_sem`: Cohen's kappa of the predictions with those of a
      `reference`, and its standard error;
    - `aopc/confidence`: mean probability of the predicted class on the clean images (of what is
      explained, under `target`; of pixels, over those that have the class); of a value there is
      none;
    - `aopc/accuracy`: share of correct predictions on the probe, only if it has labels; of
      independent labels (`score="sigmoid"`) the share of images whose labels are all right; of
      pixels (`score="segmentation"`) the share of labelled pixels that are right;
    - `aopc/label_accuracy`: share of independent labels that are right, only if there are any;
    - `aopc/seconds`: wall time of the evaluation;
    - `aopc/figures_seconds`: wall time of its figures, if there are any;
    - `aopc/overhead`: share of the wall time of this run that evaluations and figures took so far;
    - `aopc/failures`: evaluations that failed so far, once one has;
    - `aopc/current/...`: the same of the weights as they train, where validations see averaged ones
      (a `WeightAveraging` callback after the monitor).

    All arguments but the first are given by name. They tell, in this order, what is looked at
    (`heatmap` to `output_fn`), when (`every_n_steps` to `max_overhead`), how images are perturbed
    (`region_size` to `seed`), what is shown (`prefix` to `custom_scalars`), and how the training is
    kept safe and cheap (`on_error`, `chunk_size`, `backend`).

    Args:
        heatmap: a name from `heatmaps.names()`, a callable (model, images, target) -> (N, H, W),
            several of these in a list, or a dict from names to callables. In YAML a callable is
            its dotted path, or `class_path` and `init_args`.
        dataloader: loader of the probe (labels not needed), or its images (N, C, H, W) as the
            network sees them; the trainer's first validation loader if not given. The probe is
            `num_images` items of the loader's data set, drawn at random but always the same. A
            dict of named loaders gives several probes, with the keys `aopc/PROBE/HEATMAP`.
        num_images: size of the probe.
        images_fn: from a batch to its images (N, C, H, W), where they are not the batch itself, the
            first of a tuple or list, or under a usual key of a dict.
        labels_fn: from a batch to its labels, where they are not the second of a tuple or list, or
            under a usual key. They are used for the accuracy alone: class indices, one-hot rows,
            or, under `score="sigmoid"`, rows of independent labels, under `score="segmentation"`
            masks of classes; what lies outside the network's classes has no label.
        inputs_fn: from a batch to what the network's `forward` takes after the images: a tensor of
            one row for each image, several in a tuple, or by name in a dict. They stay with their
            image while it is perturbed.
        model_fn: from the LightningModule to the network to look at, if that is not the module
            itself: `lambda module: module.student`, or the name of the attribute, "student". It
            may be any callable from images to outputs.
        output_fn: from what the network returns to (N, classes), where that is not its answer, the
            entry of a usual name (`logits`, ...) or the first tensor of that shape.
        reference: what the network's predictions are compared with: a `FixedReference`, or any
            callable from images to scores (N, classes) or classes (N,), on the CPU unless it is a
            network that is elsewhere. It is asked once of each probe.
        every_n_steps: evaluate every so many optimizer steps (`trainer.global_step`), or at the
            steps of an increasing sequence.
        at_validation: evaluate whenever the trainer validates or tests.
        max_overhead: leave out evaluations and figures that would make all of them take more than
            this share of the wall time, such as 0.05; the first and the last are always made.
        region_size: side of the regions, a number or one per dimension (of a volume); one that
            fits the images if not given.
        steps: how many regions are perturbed; half of them, at most 50, if not given.
        sampled_steps: how many of the steps are evaluated for each image, drawn so that the AOPC is
            unbiased; None for all, with a smaller error at more forwards.
        data_range: (low, high) of valid inputs as the network sees them, numbers or one per
            channel; if not given, the smallest and largest value of the probe. What was chosen is
            printed once and kept in the checkpoint.
        replacement: "uniform", the usual one, "blur", "mean", "constant", "noisy_linear", "linear",
            or a `Replacement`; see `area_over_perturbation_curve`, also for the regions.
        regions: regions of your own: a map for all images, or a function from images to theirs.
        region_relevance: of a region of your own, the "mean" or the "sum" of the heatmap over it.
        step_is: "region" or "share", as in `AOPC`.
        repeats: independent draws of a random replacement.
        score: "probability", "logit", "log_probability", "sigmoid" (independent labels, or one
            number per image), "value" (of a regression), "segmentation" (mean logit of a class over
            the pixels that have it), or (outputs, target) -> (N,).
        target: what is explained: "predicted" (of independent labels or of pixels each class that
            is predicted, by itself: an image counts once, by the mean over them), or a function
            from outputs to (N,) classes or (N, K) truth values; the likeliest class, or the one of
            most pixels, if not given.
        lerf: also perturb the least relevant regions first, at half as many forwards again or
            more; the other numbers stay what they are.
        seed: seed of the probe, of ties and of noise.
        prefix: first part of the log keys. Each of several monitors needs one of its own: else
            Lightning finds "more than one stateful callback of type `AOPCMonitor`".
        figures: make pictures, at the first and last look and at those of validations: AOPC and
            accuracy so far, perturbation curves (for which this look also perturbs the least
            relevant regions first), and a few images of the probe with their heatmaps. They go to
            TensorBoard, W&B and MLflow as `aopc/figures/...`, else to PNG files in the folder
            `aopc_figures` of the log folder. Needs matplotlib.
        figures_every_n_steps: make them every so many optimizer steps instead, or at the steps
            of an increasing sequence; each such step is also evaluated.
        tokenizer: of texts in figures, which word has which ids: with a method `decode`, or a list
            of words, a dict from words to ids, or a callable from ids to a text; if not given, an
            attribute `tokenizer`, `vocabulary` or `vocab` of the module, the probe's loader, its
            `collate_fn` or its data set.
        custom_scalars: write a layout to TensorBoard that has AOPC and accuracy in one chart.
        on_error: "warn" to go on training after a failed evaluation, without the monitor after
            three in a row; "raise" to stop. Settings that cannot work raise when training starts.
        chunk_size: images per forward; 64 if not given, fewer of large ones on a CPU (16 of 224 x
            224) and where memory is short.
        backend: what carries out forwards that only give scores: "eager", or "fused" for images on
            a CPU, faster by up to half; see `Execution`. The others are for fixed networks.

    Attributes:
        history: one dict per evaluation of this training: "step", the keys above, and the standard
            errors of all quantities.
        measurements: what is measured, by the name of the probe, "" for the only one.
        evaluations: the last `Evaluation` of each probe.

    Raises:
        ValueError: for unknown names and impossible values.
        ModuleNotFoundError: for figures without matplotlib.

    Example:
        >>> monitor = AOPCMonitor("lrp", every_n_steps=500, data_range=(0.0, 1.0))
        >>> # trainer = pl.Trainer(callbacks=[monitor])
    """

    def __init__(
        self,
        heatmap: str | Sequence[Any] | Mapping[str, Any] | Callable[..., Any] = "lrp",
        *unnamed: NoReturn,
        # What is looked at.
        dataloader: Any = None,
        num_images: int = 128,
        images_fn: Callable[..., Any] | None = None,
        labels_fn: Callable[..., Any] | None = None,
        inputs_fn: Callable[..., Any] | None = None,
        model_fn: str | Callable[..., Any] | None = None,
        output_fn: Callable[..., Any] | None = None,
        reference: str | Callable[..., Any] | None = None,
        # When.
        every_n_steps: int | Sequence[int] | None = None,
        at_validation: bool = True,
        max_overhead: float | None = None,
        # How images are perturbed.
        region_size: int | Sequence[int] | None = None,
        steps: int | None = None,
        sampled_steps: int | None = SUGGESTED_SAMPLED_STEPS,
        data_range: Sequence[Any] | None = None,
        replacement: str | Any | None = None,
        regions: Any = None,
        region_relevance: str = "mean",
        step_is: str | None = None,
        repeats: int = 1,
        score: str | Callable[..., Any] = "probability",
        target: str | Callable[..., Any] | None = None,
        lerf: bool = False,
        seed: int = 0,
        # What is shown.
        prefix: str = "aopc",
        figures: bool = False,
        figures_every_n_steps: int | Sequence[int] | None = None,
        tokenizer: Any = None,
        custom_scalars: bool = False,
        # Safety and cost.
        on_error: str = "warn",
        chunk_size: int | None = None,
        backend: str = "eager",
    ) -> None:
        shown = checked_shown(unnamed, figures, figures_every_n_steps)
        settings = MonitorSettings(
            heatmaps=named_heatmaps(heatmap),
            num_images=num_images,
            sources=named_sources(dataloader),
            choices=ProtocolChoices(
                region_size=region_size,
                steps=steps,
                sampled_steps=sampled_steps,
                data_range=cast("DataRange | None", data_range),
                replacement=replacement,
                repeats=repeats,
                score=cast("Score", score),
                execution=execution_while_training(chunk_size, backend),
                output_fn=output_fn,
                regions=regions,
                region_relevance=cast("RegionRelevance", region_relevance),
                step_is=cast("StepIs | None", step_is),
                target=cast("TargetChoice", target),
            ),
            seed=checked_seed(seed),
            reading=BatchReading(images_fn, labels_fn, inputs_fn, label_kind_of(score)),
            model_fn=model_fn,
            max_overhead=max_overhead,
            prefix=prefix, on_error=on_error, lerf=lerf,
            figures=figures, custom_scalars=custom_scalars, tokenizer=tokenizer,
            reference=checked_reference(reference, score),
        )  # fmt: skip
        super().__init__(settings, schedule_of(every_n_steps), at_validation, shown)

    @property
    def heatmaps(self) -> Mapping[str, Heatmap]:
        """The heatmaps by the name that they are logged under."""
        return self.settings.heatmaps

    @property
    def history(self) -> list[dict[str, float]]:
        """One dict per evaluation of this training."""
        self._take_back()
        return self._watch.history

    @property
    def measurements(self) -> Mapping[str, Measurement]:
        """What is measured, by the name of the probe."""
        return self._look.measurements

    @property
    def evaluations(self) -> Mapping[str, Evaluation]:
        """The last evaluation of each probe."""
        self._take_back()
        return self._look.evaluations

    # State

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what Lightning hangs on callbacks: methods of the module, and so all of it."""
        self._take_back()
        return {k: value for k, value in vars(self).items() if k not in ("log", "log_dict")}

    @property
    def state_key(self) -> str:
        """One state per prefix, so that several monitors do not share one."""
        return self._generate_state_key(prefix=self.settings.prefix)

    def state_dict(self) -> dict[str, Any]:
        """History, settings and failures: texts, numbers and lists of them only."""
        self._take_back()
        return self._watch.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the history, under the same data range."""
        self._watch.restore(state_dict)

    def cost(self, model: Any, batch: Any) -> Cost:
        """What an evaluation will cost, measured on a training batch; the model is left as it was.

        Args:
            model: the LightningModule, or the network itself.
            batch: a training batch, on the model's device.

        Example:
            >>> import torch
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
            >>> cost = AOPCMonitor().cost(model, torch.rand(8, 3, 16, 16))
            >>> cost.forwards
            1152
        """
        settings = self.settings
        taken = settings.reading.taken(batch)
        images = checked_inputs(taken.images)
        network = settings.network(model)
        whole = Probe(images, None, inputs=taken.inputs, words=taken.words)
        part = settings.measurement(whole.part(range(len(images))[:BLOCK_SIZE]))
        every = self.every_n_steps if isinstance(self.every_n_steps, int) else None
        return measured(network, whole, part, settings.num_images, every)
