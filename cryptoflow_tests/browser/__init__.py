"""Tests of what a user sees in Dagster's UI, in a real browser."""
