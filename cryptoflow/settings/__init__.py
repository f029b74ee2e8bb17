"""Every setting: its environment variable, default, limits and meaning, stated once.

The command line, the Dagster resources and the documentation are made from these models. What is given
explicitly wins over the environment, which wins over the default.
"""

from cryptoflow.settings.feed import OFFICIAL_URL, FeedSettings, api_key, is_simulated, store_name
from cryptoflow.settings.loading import load, unusable
from cryptoflow.settings.runs import (
    DEFAULT_TIMEOUT_S,
    HistorySettings,
    TimedKafkaSettings,
    TimedMemorySettings,
    TimedSettings,
    home,
)
from cryptoflow.settings.setting import (
    Settings,
    default_text,
    has_option,
    in_run_config,
    old_env,
    setting_env,
    settings_of,
    variables_text,
)
from cryptoflow.settings.spark import DEFAULT_AHEAD_S, HOUR_S, SparkSettings
from cryptoflow.settings.stores import CassandraSettings, KafkaSettings
from cryptoflow.settings.web import LOOPBACKS, WebSettings

__all__ = [
    "DEFAULT_AHEAD_S",
    "DEFAULT_TIMEOUT_S",
    "HOUR_S",
    "LOOPBACKS",
    "OFFICIAL_URL",
    "CassandraSettings",
    "FeedSettings",
    "HistorySettings",
    "KafkaSettings",
    "Settings",
    "SparkSettings",
    "TimedKafkaSettings",
    "TimedMemorySettings",
    "TimedSettings",
    "WebSettings",
    "api_key",
    "default_text",
    "has_option",
    "home",
    "in_run_config",
    "is_simulated",
    "load",
    "old_env",
    "setting_env",
    "settings_of",
    "store_name",
    "unusable",
    "variables_text",
]
