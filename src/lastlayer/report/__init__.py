"""The one-file report: what the model gets right, what it confuses, and how anyone can check it."""

from lastlayer.report.comparison import (
    ClassPair,
    ComparedPair,
    ComparedRun,
    ComparisonData,
    Differs,
    render_comparison,
)
from lastlayer.report.data import (
    Abstaining,
    Calibration,
    Doubt,
    Epoch,
    Mistake,
    Near,
    PathRow,
    Picture,
    ReportData,
    Setting,
    Suspects,
    TemplateImages,
    Training,
)
from lastlayer.report.render import figure_files, render_report
from lastlayer.report.stored import pack_report, unpack_report

__all__ = [
    "Abstaining",
    "Calibration",
    "ClassPair",
    "ComparedPair",
    "ComparedRun",
    "ComparisonData",
    "Differs",
    "Doubt",
    "Epoch",
    "Mistake",
    "Near",
    "PathRow",
    "Picture",
    "ReportData",
    "Setting",
    "Suspects",
    "TemplateImages",
    "Training",
    "figure_files",
    "pack_report",
    "render_comparison",
    "render_report",
    "unpack_report",
]
