"""The run folder and its documents: what every room writes and reads."""

from kleiber.runs.baseline import Baseline, BaselineResult
from kleiber.runs.cache import default_cache
from kleiber.runs.counts import CONVENTIONS, Convention, ParamCount
from kleiber.runs.data_shape import DataShape, InputKind
from kleiber.runs.document import Document, canonical_json, hash_of
from kleiber.runs.folder import METRIC_KEYS, RunFolder, find_runs
from kleiber.runs.guessing import guessing_loss, has_learnt, is_above_guessing
from kleiber.runs.ledger import LedgerEntry, read_ledger, write_ledger
from kleiber.runs.machine import free_memory_bytes, num_cores, processor_name
from kleiber.runs.recipe import (
    AugmentRecipe,
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    ParallelRecipe,
    ParametrizationRecipe,
    Recipe,
    RecoverRecipe,
    ScheduleRecipe,
    SequenceWarmup,
    StopRecipe,
    TaskName,
    TaskRecipe,
    TrainRecipe,
    read_recipe,
)
from kleiber.runs.record import (
    DataMeta,
    Environment,
    Estimate,
    Lineage,
    Predicted,
    Record,
    Result,
    environment,
    now,
)
from kleiber.runs.row import Excluded, Row, row_of
from kleiber.runs.shown import Shown, read_shown, write_shown

__all__ = [
    "CONVENTIONS",
    "METRIC_KEYS",
    "AugmentRecipe",
    "Baseline",
    "BaselineResult",
    "Convention",
    "DataMeta",
    "DataRecipe",
    "DataShape",
    "Document",
    "Environment",
    "Estimate",
    "Excluded",
    "InputKind",
    "LedgerEntry",
    "Lineage",
    "ModelRecipe",
    "OptimizerRecipe",
    "ParallelRecipe",
    "ParamCount",
    "ParametrizationRecipe",
    "Predicted",
    "Recipe",
    "Record",
    "RecoverRecipe",
    "Result",
    "Row",
    "RunFolder",
    "ScheduleRecipe",
    "SequenceWarmup",
    "Shown",
    "StopRecipe",
    "TaskName",
    "TaskRecipe",
    "TrainRecipe",
    "canonical_json",
    "default_cache",
    "environment",
    "find_runs",
    "free_memory_bytes",
    "guessing_loss",
    "has_learnt",
    "hash_of",
    "is_above_guessing",
    "now",
    "num_cores",
    "processor_name",
    "read_ledger",
    "read_recipe",
    "read_shown",
    "row_of",
    "write_ledger",
    "write_shown",
]
