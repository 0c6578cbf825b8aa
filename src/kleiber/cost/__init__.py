"""What a model needs: operations, memory, time, money. Pure Python."""

from kleiber.cost.calibration import Calibration, Probe, calibration_path, load_calibration, save_calibration
from kleiber.cost.devices import DTYPES, Device, find_device, known_devices
from kleiber.cost.flops import FLOP_CONVENTIONS, FlopConvention, FlopCount
from kleiber.cost.memory import VAL_SEQUENCES, MemoryBytes, StepMemory
from kleiber.cost.optimizers import MUON_ITERATIONS, OptimizerCost, optimizer_cost
from kleiber.cost.step_time import (
    ASSUMED_EFFICIENCY_FRAC,
    StepShape,
    StepTime,
    assumed_step_time,
    calibrated_step_time,
)

__all__ = [
    "ASSUMED_EFFICIENCY_FRAC",
    "DTYPES",
    "FLOP_CONVENTIONS",
    "MUON_ITERATIONS",
    "VAL_SEQUENCES",
    "Calibration",
    "Device",
    "FlopConvention",
    "FlopCount",
    "MemoryBytes",
    "OptimizerCost",
    "Probe",
    "StepMemory",
    "StepShape",
    "StepTime",
    "assumed_step_time",
    "calibrated_step_time",
    "calibration_path",
    "find_device",
    "known_devices",
    "load_calibration",
    "optimizer_cost",
    "save_calibration",
]
