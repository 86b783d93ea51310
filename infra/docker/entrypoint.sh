#!/bin/sh
# Prepares the environment of a container from its variables, and becomes the given command.
set -eu
# The database's password, from its file: Dagster looks for it in the environment.
if [ -n "${DAGSTER_PG_PASSWORD_FILE:-}" ]; then
    DAGSTER_PG_PASSWORD=$(cat "$DAGSTER_PG_PASSWORD_FILE")
    export DAGSTER_PG_PASSWORD
fi
# Dagster's settings, where its home is a new folder of each container.
if [ -n "${RECON_DAGSTER_SETTINGS:-}" ]; then
    mkdir -p "$DAGSTER_HOME"
    cp "$RECON_DAGSTER_SETTINGS" "$DAGSTER_HOME/dagster.yaml"
fi
# A profile for each stage's role, taken with the role of the task: land=ARN,reduce=ARN …
if [ -n "${RECON_STAGE_ROLES:-}" ]; then
    AWS_CONFIG_FILE=/tmp/recon-aws.config
    RECON_STAGE_PROFILE='recon-{stage}'
    export AWS_CONFIG_FILE RECON_STAGE_PROFILE
    echo "$RECON_STAGE_ROLES" | tr ',' '\n' | while IFS='=' read -r stage role; do
        printf '[profile recon-%s]\nrole_arn = %s\ncredential_source = EcsContainer\n\n' "$stage" "$role"
    done > "$AWS_CONFIG_FILE"
fi
# Dagster's own processes write JSON where Recon's do; the variable is for the process that a code server starts.
if [ "${RECON_LOG:-}" = json ]; then
    export DAGSTER_CLI_API_GRPC_LOG_FORMAT=json
    case "${1:-} ${2:-} ${3:-}" in
        "dagster-webserver "* | "dagster-daemon run"* | "dagster code-server start") set -- "$@" --log-format=json ;;
    esac
fi
exec "$@"
