"""Looking at a model in the middle of its training, and leaving no trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aopc_monitor.network.lockstep import in_step
from aopc_monitor.network.parts import modules_of, parameters_of
from aopc_monitor.network.random_states import generator_states, restore_generators, seed_generators
from aopc_monitor.network.sharded import at_rest, local_part, untouched_shards
from aopc_monitor.network.snapshot import Snapshot


class ModelModifiedError(RuntimeError):
    """Somebody wrote to the parameters of a model that was only looked at."""


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        modules: itself, and all modules inside.
        parameters: each once.
        held: buffers and other tensors of its modules, see `held_tensors`.
    """

    modules: list[nn.Module]
    parameters: list[nn.Parameter]
    held: list[Tensor]


@contextmanager
def untouched(model: nn.Module, seed: int = 0) -> Iterator[Parts]:
    """Run code on a model so that neither the model nor its training notices.

    Inside, every submodule is in eval mode, gradients can be taken (also where the caller is in
    `no_grad` or `inference_mode`), compiled models run eagerly, and the random generators of torch,
    its accelerators, numpy and Python start from `seed`. Afterwards, also after an exception, these
    are as they were: of each submodule the mode, the attributes, hooks, submodules, parameters, and
    buffers with their values (see `Snapshot.of` for what is followed); of each parameter
    `requires_grad` and `.grad`; the generators and the default dtype. Nothing on the model is
    hooked, patched or copied, apart from its buffers and small tensors.

    Args:
        model: the network under observation.
        seed: where the random generators start inside, for code that draws from the global ones.

    Yields:
        The parts of the model.

    Raises:
        ModelModifiedError: on leaving, if the values of a parameter were changed inside (they are
            not copied, and so cannot be put back), or if anything else could not be put back.

    Example:
        >>> model = nn.Sequential(nn.Dropout(0.5)).train()
        >>> with untouched(model):
        ...     model.training, model[0].training
        (False, False)
        >>> model.training, model[0].training
        (True, True)
    """
    parts, snapshot = _parts_of(modules_of(model))
    modules = [(module, module.training) for module in parts.modules]
    parameters = _Parameters(parts.parameters)
    generators, default_dtype = generator_states(), torch.get_default_dtype()
    try:
        for module, was_training in modules:
            # Not .eval(): modules may hang work on it, such as merging adapter weights.
            if was_training:
                module.training = False
        parameters.take_gradients()
        seed_generators(seed)
        with in_step(model), _gradients_and_eager_execution(), untouched_shards(parts.modules):
            yield parts
    finally:
        restore_generators(generators)
        torch.set_default_dtype(default_dtype)
        # What training needs most comes first: nothing that fails further down keeps it away.
        for module, was_training in modules:
            if module.training != was_training:  # TorchScript keeps it elsewhere than the rest
                module.training = was_training
        parameters.restore()
        problems = snapshot.restore()
        if problems:
            raise ModelModifiedError(
                f"something on the model could not be put back as it was: {'; '.join(problems)}"
            )
    changed = parameters.written_to()
    if changed:
        names = [name for name, tensor in model.named_parameters() if id(tensor) in changed]
        raise ModelModifiedError(_modified(names))


def _parts_of(modules: list[nn.Module]) -> tuple[Parts, Snapshot]:
    at_rest(modules)
    snapshot = Snapshot.of(modules)
    return Parts(modules, parameters_of(modules), snapshot.held), snapshot


@contextmanager
def unwritten(model: nn.Module) -> Iterator[None]:
    """Raise if the values of a parameter change, in whatever way they are written to.

    `untouched` sees what torch counts: not what goes past it, through `.data` or numpy, nor what a
    heatmap that fails leaves behind. Here the bits are added up before and after, which takes about
    as long as reading all parameters twice.

    Raises:
        ModelModifiedError: on leaving, also by an exception, if the values have changed.
    """
    before = _sums_of_bits(model)
    try:
        yield
    except Exception as error:
        _check_unwritten(before, model, error)
        raise
    _check_unwritten(before, model, None)


def _check_unwritten(before: dict[str, Tensor], model: nn.Module, error: Exception | None) -> None:
    now = _sums_of_bits(model)
    if _numbers(list(before.values())) == _numbers(list(now.values())):
        return
    changed = [name for name in before if name not in now or not before[name].equal(now[name])]
    if changed:
        raise ModelModifiedError(_modified(changed)) from error


def _modified(names: list[str]) -> str:
    return (
        f"parameters of the model changed while it was only looked at: {', '.join(names)}. A "
        "heatmap or the model's own forward writes to them; training from here on is not what it "
        "was"
    )


@contextmanager
def _gradients_and_eager_execution() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad(), _eager():
        yield


def _eager() -> AbstractContextManager[object]:
    """Compiled models run as they were written; each new mode and shape would be compiled anew."""
    # Nothing is compiled yet where the compiler was not even imported, which takes seconds.
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


class _Parameters:
    """What is to be put back of parameters, and how often each was written to."""

    def __init__(self, tensors: list[nn.Parameter]) -> None:
        self.tensors = tensors
        self.require_grad = [tensor.requires_grad for tensor in tensors]
        self.grads = [tensor.grad for tensor in tensors]
        self.versions = _versions(tensors)

    def take_gradients(self) -> None:
        for tensor, grad in zip(self.tensors, self.grads, strict=True):
            if grad is not None:
                tensor.grad = None

    def restore(self) -> None:
        for tensor, requires_grad, grad in zip(
            self.tensors, self.require_grad, self.grads, strict=True
        ):
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
            if tensor.grad is not grad:
                tensor.grad = grad

    def written_to(self) -> set[int]:
        """The ids of those that were written to since."""
        changes = zip(self.tensors, self.versions, _versions(self.tensors), strict=True)
        return {id(tensor) for tensor, before, now in changes if before != now}


def _versions(parameters: list[nn.Parameter]) -> list[int | None]:
    # Nearly all are of this type, and there are many of them.
    return [
        p._version if type(p) is nn.Parameter and not p.is_inference() else _version(p)
        for p in parameters
    ]


def _version(tensor: Tensor) -> int | None:
    """In-place changes so far; None for tensors made in inference mode, which do not count them."""
    local = local_part(tensor)
    if tensor.is_inference() or (local is not tensor and local.is_inference()):
        return None
    return tensor._version if local is tensor else tensor._version + local._version


def fingerprint(model: nn.Module) -> tuple[int, ...]:
    """Differs from an earlier one if the values of a parameter have changed in between.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> before = fingerprint(model)
        >>> model.bias.data += 1  # which torch does not count as a change
        >>> before == fingerprint(model)
        False
    """
    sums = _sums_of_bits(model)
    # Torch at least counts the changes of parameters whose bits cannot be added up.
    others = [p for name, p in model.named_parameters() if name not in sums]
    return (*_numbers(list(sums.values())), *(_version(other) or 0 for other in others))


def _numbers(totals: list[Tensor]) -> list[int]:
    """Totals as numbers, with one wait for each device."""
    numbers: list[int] = []
    for device in {total.device for total in totals}:
        numbers += torch.stack([total for total in totals if total.device == device]).tolist()
    return numbers


def _sums_of_bits(model: nn.Module) -> dict[str, Tensor]:
    """A number for each parameter that changes with any single change of a value.

    Where parameters are spread over processes, of the part that this one holds.
    """
    at_rest(model.modules())
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    parts = {name: local_part(parameter) for name, parameter in model.named_parameters()}
    return {
        name: part.detach().contiguous().view(whole[part.element_size()]).sum()
        for name, part in parts.items()
        # Tensors of other kinds, quantized ones for instance, cannot be seen as whole numbers.
        if type(part) in (nn.Parameter, Tensor)
        and part.is_floating_point()
        and part.layout is torch.strided
    }
