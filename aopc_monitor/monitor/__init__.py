"""The door: AOPCMonitor, the Lightning callback, and what studies of a training need beside it.

Only in this folder is Lightning known.
"""

from aopc_monitor.monitor.callback import AOPCMonitor
from aopc_monitor.monitor.collection import collect_probe
from aopc_monitor.monitor.cost import Cost
from aopc_monitor.monitor.loaders import BLOCK_SIZE
from aopc_monitor.monitor.loggers import publish, record_of
from aopc_monitor.monitor.measurement import Measurement, evaluate_on_all_processes
from aopc_monitor.monitor.probe import Probe
from aopc_monitor.monitor.schedule import log_spaced_steps

__all__ = [
    "BLOCK_SIZE",
    "AOPCMonitor",
    "Cost",
    "Measurement",
    "Probe",
    "collect_probe",
    "evaluate_on_all_processes",
    "log_spaced_steps",
    "publish",
    "record_of",
]
