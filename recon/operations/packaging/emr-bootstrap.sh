#!/bin/bash
# Bootstrap action of EMR: installs on each machine of a cluster what Recon needs beside Spark. It comes from S3; no machine asks the internet.
#
#   emr-bootstrap.sh s3://BUCKET/PREFIX [PYTHON]    where `make emr-package` was put; which Python of the release, python3.11 if not given
#
# Spark is led there by two settings: spark.pyspark.python and spark.pyspark.driver.python, both /opt/recon/bin/python.
set -euo pipefail

package=${1:?emr-bootstrap.sh: name the folder in S3 that holds wheels/, such as s3://BUCKET/spark}
python=${2:-python3.11}
home=${RECON_ENVIRONMENT:-/opt/recon}
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

aws s3 cp --recursive --only-show-errors "${package%/}/wheels/" "$wheels/"
sudo install -d -o "$(id -u)" "$home"
"$python" -m venv "$home"
"$home/bin/python" -m pip install --quiet --no-index --find-links "$wheels" --requirement "$wheels/requirements.txt"
"$home/bin/python" -c 'import sys; print("recon: what it needs is installed in", sys.prefix)'
