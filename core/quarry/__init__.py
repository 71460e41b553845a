"""Quarry: a search stack that learns from its own clicks."""

from quarry.environment import forbid_telemetry

forbid_telemetry()
