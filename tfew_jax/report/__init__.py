"""Records to the papers' tables: medians, interquartile ranges, published numbers.

experiments = report.load_records("runs")
print(report.to_text(report.table(experiments)))
"""

from tfew_jax.report.comparison import figure as comparison_figure
from tfew_jax.report.comparison import to_text as comparison_text
from tfew_jax.report.comparison import write as write_comparison
from tfew_jax.report.formats import to_csv, to_markdown, to_text
from tfew_jax.report.page import to_html
from tfew_jax.report.reading import Results, read
from tfew_jax.report.records import Experiment, Record, load_records
from tfew_jax.report.tables import Table, table

__all__ = [
    "Experiment",
    "Record",
    "Results",
    "Table",
    "comparison_figure",
    "comparison_text",
    "load_records",
    "read",
    "table",
    "to_csv",
    "to_html",
    "to_markdown",
    "to_text",
    "write_comparison",
]
