#!/bin/sh
# Puts the database's password from its file into the environment, where Dagster looks for it, and becomes the given command.
set -eu
if [ -n "${DAGSTER_PG_PASSWORD_FILE:-}" ]; then
    DAGSTER_PG_PASSWORD=$(cat "$DAGSTER_PG_PASSWORD_FILE")
    export DAGSTER_PG_PASSWORD
fi
exec "$@"
