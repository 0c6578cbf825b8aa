"""The run folder and its documents: what every room writes and reads."""

from kleiber.runs.cache import default_cache
from kleiber.runs.counts import CONVENTIONS, Convention, ParamCount
from kleiber.runs.document import Document, canonical_json, hash_of
from kleiber.runs.folder import METRIC_KEYS, RunFolder, find_runs
from kleiber.runs.ledger import LedgerEntry, read_ledger, write_ledger
from kleiber.runs.machine import num_cores
from kleiber.runs.recipe import (
    DataRecipe,
    ModelRecipe,
    OptimizerRecipe,
    ParallelRecipe,
    Recipe,
    ScheduleRecipe,
    TaskRecipe,
    TrainRecipe,
    read_recipe,
)
from kleiber.runs.record import DataMeta, Environment, Lineage, Predicted, Record, Result, environment, now
from kleiber.runs.row import Row, row_of

__all__ = [
    "CONVENTIONS",
    "METRIC_KEYS",
    "Convention",
    "DataMeta",
    "DataRecipe",
    "Document",
    "Environment",
    "LedgerEntry",
    "Lineage",
    "ModelRecipe",
    "OptimizerRecipe",
    "ParallelRecipe",
    "ParamCount",
    "Predicted",
    "Recipe",
    "Record",
    "Result",
    "Row",
    "RunFolder",
    "ScheduleRecipe",
    "TaskRecipe",
    "TrainRecipe",
    "canonical_json",
    "default_cache",
    "environment",
    "find_runs",
    "hash_of",
    "now",
    "num_cores",
    "read_ledger",
    "read_recipe",
    "row_of",
    "write_ledger",
]
