# The image of Recon: its command line, its Dagster code and Dagster itself. What runs in it is in compose.yaml; see docs/docker.md.
FROM python:3.13.14-slim-trixie AS base
ENV PATH=/opt/recon/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

FROM base AS build
# Which of setup.py's extras to install. Without S3 and DynamoDB "postgres" is enough.
ARG EXTRAS=aws,postgres
WORKDIR /source
RUN python -m venv /opt/recon
COPY LICENSE README.md dagster.yaml pyproject.toml setup.py workspace.yaml ./
COPY jobs jobs/
COPY recon recon/
COPY recon_assets recon_assets/
COPY recon_dagster recon_dagster/
COPY resources resources/
RUN /opt/recon/bin/pip install --no-cache-dir --disable-pip-version-check ".[${EXTRAS}]"

FROM base
LABEL org.opencontainers.image.title="Recon" \
      org.opencontainers.image.description="Reconciles financial events at high volume" \
      org.opencontainers.image.licenses="Apache-2.0"
# A new named volume takes the owner of the folder that it is mounted on.
RUN groupadd --gid 10001 recon \
    && useradd --uid 10001 --gid recon --create-home recon \
    && install --directory --owner=recon --group=recon --mode=0700 /store /var/lib/dagster
COPY --from=build /opt/recon /opt/recon
COPY --chmod=755 infra/docker/entrypoint.sh /usr/local/bin/recon-entrypoint
ENV DAGSTER_HOME=/var/lib/dagster \
    RECON_CONFIG=/reconciliations \
    XDG_CACHE_HOME=/tmp/cache
USER 10001:10001
WORKDIR /reconciliations
ENTRYPOINT ["recon-entrypoint"]
CMD ["recon", "--help"]
