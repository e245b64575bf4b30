"""How a network is asked and left untouched.

This door is for those who measure by themselves: how forwards are carried out, how many images go
at once, what of an answer is the score, and the guard around a network that is only looked at.
"""

from aopc_monitor.network.backends.table import BACKENDS, is_installed
from aopc_monitor.network.chunks import ChunkSizes, ChunkSizesByNetwork, in_chunks
from aopc_monitor.network.execution import Execution
from aopc_monitor.network.isolation import ModelModifiedError, untouched, unwritten
from aopc_monitor.network.memory import is_out_of_memory
from aopc_monitor.network.outputs import class_outputs
from aopc_monitor.network.scores import (
    SCORES,
    Score,
    ScoreFunction,
    are_probabilities,
    score_function,
)
from aopc_monitor.network.wrappers import network_of

__all__ = [
    "BACKENDS",
    "SCORES",
    "ChunkSizes",
    "ChunkSizesByNetwork",
    "Execution",
    "ModelModifiedError",
    "Score",
    "ScoreFunction",
    "are_probabilities",
    "class_outputs",
    "in_chunks",
    "is_installed",
    "is_out_of_memory",
    "network_of",
    "score_function",
    "untouched",
    "unwritten",
]
