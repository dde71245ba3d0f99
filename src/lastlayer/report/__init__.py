"""The one-file report: what the model gets right, what it confuses, and how anyone can check it."""

from lastlayer.report.data import Mistake, PathRow, Picture, ReportData, Setting, TemplateImages
from lastlayer.report.render import render_report

__all__ = ["Mistake", "PathRow", "Picture", "ReportData", "Setting", "TemplateImages", "render_report"]
