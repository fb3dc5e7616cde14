#!/usr/bin/env bash
# Makes one consortium of the three nodes of compose.yaml, the first time; afterwards "docker compose up -d" is enough.
# The passphrase of all keys is in compose-passphrase, which only this machine should have: it is created here.
set -euo pipefail
cd "$(dirname "$0")"

secret=compose-passphrase
if [ ! -e "$secret" ]; then
  (umask 077 && head -c 24 /dev/urandom | base64 > "$secret")
  # The node in the container has another user, to whom compose shows the file with its own mode.
  chmod 0444 "$secret"
fi
passphrase=(--passphrase-file /run/secrets/passphrase)
model=/opt/flexmesh/models/small

# One command in a container of its own, before the node of the service runs.
before() { docker compose run --rm -T "$1" "${@:2}"; }
# One command beside the running node of a service.
beside() { docker compose exec -T "$1" flexmesh "${@:2}"; }

# join SERVICE INSTITUTION APPROVING-SERVICE...
join() {
  local service=$1 institution=$2 invite
  shift 2
  before "$service" init --institution "$institution" "${passphrase[@]}"
  invite=$(beside hospital invite | grep -o 'flexmesh-invite-1:[^ ]*')
  before "$service" join "$invite" "${passphrase[@]}" &
  for approving in "$@"; do
    until beside "$approving" approve "$institution"; do sleep 1; done
  done
  wait $!
  run "$service"
}

# Start the node of a service, and wait until it answers.
run() {
  docker compose up -d "$1"
  until beside "$1" status > /dev/null 2>&1; do sleep 1; done
}

docker compose build
before hospital init --institution 'St. Anna Hospital' "${passphrase[@]}"
before hospital consortium create --public-model "$model" --name 'Three nodes' "${passphrase[@]}"
run hospital
join archive 'Archives du Travail' hospital
join university 'Institute of Logic' hospital archive

beside hospital members
echo 'APIs and dashboards: http://localhost:8081, 8082 and 8083; a link that opens the first dashboard:'
beside hospital dashboard | sed 's/127\.0\.0\.1:8080/localhost:8081/'
