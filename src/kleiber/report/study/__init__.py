"""The page of `kleiber study`: a sentence, a chart and how it was measured, for each quantity that grows with a model."""

from kleiber.report.study.page import write_study_page
from kleiber.report.study.trends_table import trend_rows

__all__ = ["trend_rows", "write_study_page"]
