"""Recurrent layers, unrolled: LSTM, GRU and RNN as the operations that they are short for.

Gates (sigmoids) weigh signals and get no relevance: a cell state c_t = f_t c_(t-1) + i_t g_t hands
its relevance on to c_(t-1) and g_t in proportion to the two products, and the pre-activations
W x_t + U h_(t-1) + b get the rule of linear operations over inputs and hidden state together (Arras
et al. 2017). Methods in which nothing is a gate (AttnLRP, DeepLIFT) see the same operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aopc_monitor.heatmaps.engine.backward_rules import BackwardRules, Rule
from aopc_monitor.heatmaps.engine.calls import Call
from aopc_monitor.heatmaps.engine.operations import FIRST_LAYER

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]


@dataclass(frozen=True)
class Weights:
    """Parameters of one direction of one layer.

    Attributes:
        input: (gates x hidden, features), of x_t.
        hidden: (gates x hidden, outputs), of h_(t-1).
        input_bias: (gates x hidden,) or None.
        hidden_bias: the same.
        projection: (outputs, hidden) of an LSTM with `proj_size`, or None.
    """

    input: Tensor
    hidden: Tensor
    input_bias: Tensor | None = None
    hidden_bias: Tensor | None = None
    projection: Tensor | None = None

    @cached_property
    def bias(self) -> Tensor | None:
        """(gates x hidden,) of both."""
        if self.input_bias is None or self.hidden_bias is None:
            return None
        return self.input_bias + self.hidden_bias

    @cached_property
    def both(self) -> Tensor:
        """(gates x hidden, features + outputs), made once for all steps."""
        return torch.cat([self.input, self.hidden], dim=1)

    def joint(self, x: Tensor, h: Tensor, mode: BackwardRules, rows: slice = slice(None)) -> Tensor:
        """W x + U h + b, one linear operation whose inputs are both."""
        bias = None if self.bias is None else self.bias[rows]
        if FIRST_LAYER in mode.rules and mode.carriers.has(x):
            # The rule of the first layer is for pixels alone.
            return F.linear(x, self.input[rows], bias) + F.linear(h, self.hidden[rows])
        return F.linear(torch.cat([x, h], dim=1), self.both[rows], bias)


def recurrent(call: Call, mode: BackwardRules) -> Any:
    """An LSTM, GRU or RNN as its steps, each operation of which has a rule of its own."""
    with mode:
        return _Sequences(call, mode).outputs()


def recurrent_cell(call: Call, mode: BackwardRules) -> Any:
    """One step of an LSTM, GRU or RNN."""
    kind = call.name.removesuffix("_cell")
    x, state = call.first, call.argument(1, "hx")
    names = ("w_ih", "w_hh", "b_ih", "b_hh")
    weights = Weights(*(call.argument(i, name) for i, name in enumerate(names, start=2)))
    with mode:
        states = state if kind == "lstm" else (state,)
        after = _step(kind, weights, mode)(x, _as_signals(states, x))
    return after if kind == "lstm" else after[0]


def _as_signals(states: Sequence[Tensor], x: Tensor) -> State:
    """The states where they begin, as tensors that depend on the images.

    A gate that weighs a signal gets no relevance, but one that weighs a constant would get it all.
    """
    nothing = x.sum(dim=1, keepdim=True) * 0
    return tuple(state + nothing for state in states)


def _step(kind: str, weights: Weights, mode: BackwardRules) -> Step:
    """From inputs (N, features) and a state to the next state, whose first part is the output."""

    def candidate(z: Tensor) -> Tensor:
        result = F.relu(z) if kind == "rnn_relu" else torch.tanh(z)
        mode.mark_signal(result)  # not the gate that a tanh is elsewhere
        return result

    def rnn(x: Tensor, state: State) -> State:
        return (candidate(weights.joint(x, state[0], mode)),)

    def lstm(x: Tensor, state: State) -> State:
        h, c = state
        keep, write, new, show = _lstm_gates(weights.joint(x, h, mode))
        c = keep * c + write * candidate(new)
        h = show * candidate(c)
        return (h if weights.projection is None else F.linear(h, weights.projection)), c

    def gru(x: Tensor, state: State) -> State:
        (h,) = state
        signal = slice(2 * h.shape[1], None)
        gates = torch.sigmoid(weights.joint(x, h, mode, slice(0, signal.start)))
        reset, keep = gates.chunk(2, dim=1)
        of_x, of_h = weights.input_bias, weights.hidden_bias
        from_x = F.linear(x, weights.input[signal], None if of_x is None else of_x[signal])
        from_h = F.linear(h, weights.hidden[signal], None if of_h is None else of_h[signal])
        new = candidate(from_x + reset * from_h)
        return ((1 - keep) * new + keep * h,)

    return {"lstm": lstm, "gru": gru}.get(kind, rnn)


def _lstm_gates(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    write, keep, new, show = z.chunk(4, dim=1)
    return torch.sigmoid(keep), torch.sigmoid(write), new, torch.sigmoid(show)


class _Sequences:
    """The layers of an LSTM, GRU or RNN, at work on the sequences of one call.

    The values of all steps lie beneath each other, (rows, features), `sizes` of them per step: of
    packed sequences, which are sorted by length, the last steps have fewer rows.
    """

    def __init__(self, call: Call, mode: BackwardRules) -> None:
        args = (*call.args, *call.kwargs.values())
        self.packed = not isinstance(args[3], bool)  # their second argument is the sizes
        values, states, parameters, has_biases, layers, dropout, train, both = (
            (args[0], *args[2:9]) if self.packed else args[:8]
        )
        self.kind, self.mode = call.name, mode
        self.dropout = dropout if train else 0.0
        self.directions = 2 if both else 1
        self.states: Sequence[Tensor] = states if self.kind == "lstm" else (states,)
        self.weights = _weights(parameters, layers * self.directions, has_biases)
        self.batch_first = not self.packed and bool(args[8])
        if self.packed:
            self.values, self.sizes = values, args[1].tolist()
        else:
            values = values.transpose(0, 1) if self.batch_first else values
            self.values, self.sizes = values.flatten(0, 1), [values.shape[1]] * len(values)

    def outputs(self) -> tuple[Tensor, ...]:
        """What the layer returns: the outputs of all steps, and the last states."""
        states = _as_signals(self.states, self.values[: self.sizes[0]])
        values, ends = self.values, []
        for first in range(0, len(self.weights), self.directions):
            outputs = []
            for number in range(first, first + self.directions):
                state = tuple(part[number] for part in states)
                output, end = self._direction(values, state, number)
                outputs.append(output)
                ends.append(end)
            values = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
            if self.dropout and first + self.directions < len(self.weights):
                values = F.dropout(values, self.dropout)
        return (self._as_it_came(values), *(torch.stack(part) for part in zip(*ends, strict=True)))

    def _as_it_came(self, values: Tensor) -> Tensor:
        if self.packed:
            return values
        values = values.unflatten(0, (len(self.sizes), self.sizes[0]))
        return values.transpose(0, 1) if self.batch_first else values

    def _direction(self, values: Tensor, start: State, number: int) -> tuple[Tensor, State]:
        """Outputs (rows, features) of one direction of a layer, and the state that it ends with."""
        step = _step(self.kind, self.weights[number], self.mode)
        backwards = number % self.directions == 1
        outputs: list[Tensor] = []
        state, finished = start, []
        steps = values.split(self.sizes)
        for x in steps[::-1] if backwards else steps:
            size, before = len(x), len(state[0])
            if size < before:  # of sequences that end here, or have not begun seen from their end
                finished.append(tuple(part[size:] for part in state))
                state = tuple(part[:size] for part in state)
            elif size > before:
                rows = zip(state, start, strict=True)
                state = tuple(torch.cat([now, new[before:size]]) for now, new in rows)
            state = step(x, state)
            outputs.append(state[0])
        finished = [] if backwards else finished
        ends = zip(state, *reversed(finished), strict=True)
        return torch.cat(outputs[::-1] if backwards else outputs), tuple(map(torch.cat, ends))


def _weights(parameters: Sequence[Tensor], count: int, has_biases: bool) -> list[Weights]:
    """The parameters of each direction of each layer, as torch lists them."""
    each, found = len(parameters) // count, []
    for first in range(0, len(parameters), each):
        of_input, of_hidden, *others = parameters[first : first + each]
        input_bias, hidden_bias = others[:2] if has_biases else (None, None)
        projection = others[-1] if each == (5 if has_biases else 3) else None
        found.append(Weights(of_input, of_hidden, input_bias, hidden_bias, projection))
    return found


RECURRENT: dict[str, Rule] = {
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), recurrent_cell),
}
