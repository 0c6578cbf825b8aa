"""What a study found, as one offline HTML file: predicted beside measured."""

from kleiber.report.page import write_report
from kleiber.report.picture import write_picture
from kleiber.report.words import LANGUAGES, Language

__all__ = ["LANGUAGES", "Language", "write_picture", "write_report"]
