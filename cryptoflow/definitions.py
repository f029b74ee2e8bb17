"""The one Dagster entry point: `dagster ... -m cryptoflow.definitions`."""

import dagster as dg

from cryptoflow.defs.automation import SCHEDULES, SENSORS
from cryptoflow.defs.jobs import JOBS
from cryptoflow.defs.resources import RESOURCES

defs = dg.Definitions(jobs=JOBS, sensors=SENSORS, schedules=SCHEDULES, resources=RESOURCES)
