"""The one Dagster entry point: `dagster ... -m cryptoflow.definitions`."""

import dagster as dg

from cryptoflow.defs.jobs import JOBS
from cryptoflow.defs.resources import RESOURCES
from cryptoflow.defs.schedules import SCHEDULES
from cryptoflow.defs.sensors import SENSORS

defs = dg.Definitions(jobs=JOBS, sensors=SENSORS, schedules=SCHEDULES, resources=RESOURCES)
