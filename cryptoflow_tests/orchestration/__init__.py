"""Tests of what Dagster starts, watches and ends, on a real `dagster dev`; a package, as its tests share a driver."""
