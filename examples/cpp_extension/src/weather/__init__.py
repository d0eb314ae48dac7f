"""A weather station whose readings, calibrations and inspections come from native threads."""

from weather._ext import Reading, Station

__all__ = ["Reading", "Station"]
