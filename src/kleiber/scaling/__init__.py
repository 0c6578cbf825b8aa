"""Scaling laws: rows to a law, a law to a forecast, a forecast to its score. NumPy, no torch."""

from kleiber.scaling.allocation import ALLOCATORS, Allocation, Budgeted, allocations
from kleiber.scaling.auto_law import fit_auto, fit_auto_groups
from kleiber.scaling.average import Average
from kleiber.scaling.backtest import Cell, coverage_frac, leave_one_out
from kleiber.scaling.compare import Comparison, Crossing, Difference, compare
from kleiber.scaling.conventions import size_exponents
from kleiber.scaling.excluded import read_excluded
from kleiber.scaling.extrapolation import Foretold, backtest_rows
from kleiber.scaling.fit import ESTIMATORS, fit
from kleiber.scaling.forecast import Forecast, Naive, forecast, naive_forecasts
from kleiber.scaling.forms import FORMS, rule_of_thumb_flops
from kleiber.scaling.law import Interval, Law, Prediction, Predictions
from kleiber.scaling.law_optimum import optimum_of_law
from kleiber.scaling.noise import Noise
from kleiber.scaling.optimum import OptimalRun, best_along, best_tokens, optimum
from kleiber.scaling.published import (
    COEFFICIENTS,
    PUBLISHED_LAWS,
    Coefficients,
    PublishedLaw,
    published_law,
)
from kleiber.scaling.rows import read_groups, read_points, read_rows
from kleiber.scaling.scores import Score, scores
from kleiber.scaling.table import Columns
from kleiber.scaling.verify import check_forecast, skill, verify

__all__ = [
    "ALLOCATORS",
    "COEFFICIENTS",
    "ESTIMATORS",
    "FORMS",
    "PUBLISHED_LAWS",
    "Allocation",
    "Average",
    "Budgeted",
    "Cell",
    "Coefficients",
    "Columns",
    "Comparison",
    "Crossing",
    "Difference",
    "Forecast",
    "Foretold",
    "Interval",
    "Law",
    "Naive",
    "Noise",
    "OptimalRun",
    "Prediction",
    "Predictions",
    "PublishedLaw",
    "Score",
    "allocations",
    "backtest_rows",
    "best_along",
    "best_tokens",
    "check_forecast",
    "compare",
    "coverage_frac",
    "fit",
    "fit_auto",
    "fit_auto_groups",
    "forecast",
    "leave_one_out",
    "naive_forecasts",
    "optimum",
    "optimum_of_law",
    "published_law",
    "read_excluded",
    "read_groups",
    "read_points",
    "read_rows",
    "rule_of_thumb_flops",
    "scores",
    "size_exponents",
    "skill",
    "verify",
]
