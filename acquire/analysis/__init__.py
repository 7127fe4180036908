"""Measures stored runs again, in parallel, and writes what it finds beside them."""

from acquire.analysis.analyse import analyse
from acquire.analysis.job import Analysis
from acquire.analysis.lanes import Lanes
from acquire.analysis.settings import AnalysisSettings
from acquire.analysis.splitting import SplitEstimator

__all__ = ["Analysis", "AnalysisSettings", "Lanes", "SplitEstimator", "analyse"]
