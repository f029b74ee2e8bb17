"""The one Dagster entry point: `dagster ... -m cryptoflow.definitions`. All of it is found in the folder `defs`."""

import warnings

import dagster as dg

from cryptoflow import defs as folder
from cryptoflow.defs.resources import RESOURCES

# `dg.load_from_defs_folder` asks for a project's pyproject.toml, which an installed package does not have.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.PreviewWarning)
    defs = dg.load_definitions_from_package_module(folder, resources=RESOURCES)
