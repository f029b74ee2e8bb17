#!/bin/sh
# Secrets come as files, which no `docker inspect` shows: NAME_FILE names the file that holds the variable NAME.
set -eu
for name in CRYPTOCOMPARE_API_KEY KAFKA_PASSWORD CASSANDRA_PASSWORD CRYPTOFLOW_WEB_TOKEN DAGSTER_POSTGRES_PASSWORD; do
  file=$(printenv "${name}_FILE") || continue
  value=$(cat "$file") # by itself, or a file that can't be read would go unnoticed
  export "$name=$value"
  unset "${name}_FILE"
done
exec "$@"
