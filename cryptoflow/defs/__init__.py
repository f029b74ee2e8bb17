"""Dagster's side: resources, ops, jobs, sensors and schedules. Thin; the work is done by `cryptoflow.pipeline`."""
