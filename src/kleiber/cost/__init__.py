"""What a model needs: operations, memory, time, money. Pure Python."""

from kleiber.cost.calibration import Calibration, Probe, calibration_path, load_calibration, save_calibration
from kleiber.cost.devices import (
    DTYPES,
    NETWORK_BYTES_PER_S,
    Device,
    described_device,
    find_device,
    known_devices,
)
from kleiber.cost.flops import FLOP_CONVENTIONS, FlopConvention, FlopCount
from kleiber.cost.memory import VAL_SEQUENCES, MemoryBytes, StepMemory
from kleiber.cost.money import LOAD_FRAC, PUE, energy_kwh, usd
from kleiber.cost.optimizers import MUON_ITERATIONS, OptimizerCost, optimizer_cost
from kleiber.cost.step_time import (
    ASSUMED_EFFICIENCY_FRAC,
    StepShape,
    StepTime,
    assumed_step_time,
    calibrated_step_time,
)
from kleiber.cost.storage import (
    LINKS_GBIT_PER_S,
    SERVED_FORMATS,
    ServedFormat,
    checkpoint_bytes,
    send_time_s,
    served_bytes,
)

__all__ = [
    "ASSUMED_EFFICIENCY_FRAC",
    "DTYPES",
    "FLOP_CONVENTIONS",
    "LINKS_GBIT_PER_S",
    "LOAD_FRAC",
    "MUON_ITERATIONS",
    "NETWORK_BYTES_PER_S",
    "PUE",
    "SERVED_FORMATS",
    "VAL_SEQUENCES",
    "Calibration",
    "Device",
    "FlopConvention",
    "FlopCount",
    "MemoryBytes",
    "OptimizerCost",
    "Probe",
    "ServedFormat",
    "StepMemory",
    "StepShape",
    "StepTime",
    "assumed_step_time",
    "calibrated_step_time",
    "calibration_path",
    "checkpoint_bytes",
    "described_device",
    "energy_kwh",
    "find_device",
    "known_devices",
    "load_calibration",
    "optimizer_cost",
    "save_calibration",
    "send_time_s",
    "served_bytes",
    "usd",
]
