#!/bin/bash
# Serves the web page and the API to one user, admin with ADMIN_PASSWORD. The simple auth manager reads passwords from a file.
set -euo pipefail
umask 077
export AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE="$AIRFLOW_HOME/passwords.json"
python -c 'import json, os; print(json.dumps({"admin": os.environ["ADMIN_PASSWORD"]}))' \
  > "$AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
unset ADMIN_PASSWORD
exec airflow api-server
