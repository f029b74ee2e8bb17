"""The one Dagster entry point: `dagster ... -m cryptoflow.definitions`."""

import dagster as dg

from cryptoflow.defs.assets import ASSETS
from cryptoflow.defs.checks import CHECK_JOBS, CHECK_SCHEDULES, CHECKS
from cryptoflow.defs.history import HISTORY_JOBS, HISTORY_SCHEDULES
from cryptoflow.defs.jobs import JOBS
from cryptoflow.defs.repair import REPAIR_ASSETS, REPAIR_JOBS, REPAIR_SENSORS
from cryptoflow.defs.resources import RESOURCES
from cryptoflow.defs.schedules import SCHEDULES
from cryptoflow.defs.sensors import SENSORS

defs = dg.Definitions(
    assets=[*ASSETS, *REPAIR_ASSETS],
    asset_checks=CHECKS,
    jobs=[*JOBS, *REPAIR_JOBS, *CHECK_JOBS, *HISTORY_JOBS],
    sensors=[*SENSORS, *REPAIR_SENSORS],
    schedules=[*SCHEDULES, *CHECK_SCHEDULES, *HISTORY_SCHEDULES],
    resources=RESOURCES,
)
