#!/usr/bin/env bash
# npm run try-dockerfile: carries out the steps of ops/Dockerfile where there is no Docker, in a clean root of Debian with
# this machine's Node, and runs the demo in the result. Then runs ops/compose.sh: each of its three nodes has a mount
# and a network namespace of its own. Needs root, mmdebstrap, iproute2, curl, and the registries of Debian and npm.
set -euo pipefail

self=$(readlink -f "$0")
repository=$(dirname "$(dirname "$(dirname "$self")")")
export FLEXMESH_TRY=${FLEXMESH_TRY:-$(mktemp -d /var/tmp/flexmesh-try-XXXXXX)}
work=$FLEXMESH_TRY
bridge=flexmesh0

# What npm needs to find its registry from inside.
registry_environment() { env | grep -E '^(npm_config_registry|NPM_CONFIG_REGISTRY|NODE_EXTRA_CA_CERTS|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)=' || true; }

# inside ROOT USER FOLDER COMMAND...: run a command in a root, with the variables of ROOT.env and mounts of its own.
# With SERVICE set: in the network, and with the volume and the secret, of this service of compose.yaml.
inside() {
  local root=$1 user=$2 folder=$3
  shift 3
  local prefix=() variables=()
  mapfile -t variables < <(cat "$root.env"; [ "$user" = root ] && registry_environment)
  [ -z "${SERVICE:-}" ] || prefix=(ip netns exec "flexmesh-$SERVICE")
  "${prefix[@]}" unshare --mount --pid --fork --kill-child bash -euc '
    root=$1 user=$2 folder=$3 service=$4; shift 4
    mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/run"
    if [ -n "$service" ]; then
      mount --bind "$FLEXMESH_TRY/volumes/$service" "$root/var/lib/flexmesh"
      mkdir "$root/run/secrets"; cp "$FLEXMESH_TRY/ops/compose-passphrase" "$root/run/secrets/passphrase"
    fi
    exec chroot --userspec="$user" "$root" env -i "$@"
  ' inside "$root" "$user" "$folder" "${SERVICE:-}" "${variables[@]}" sh -c 'cd "$0" && exec "$@"' "$folder" "$@"
}

# stage NAME: carry out the instructions on stdin in a copy of the clean root.
stage() {
  local root=$work/$1 user=root folder=/ keyword rest from
  cp -a "$work/base" "$root"
  printf '%s\n' PATH=/usr/local/bin:/usr/bin:/bin HOME=/root > "$root.env"
  while read -r keyword rest; do
    case "$keyword" in
      ENV) echo "$rest" >> "$root.env" ;;
      USER) user=$rest; sed -i "s|^HOME=.*|HOME=/home/$rest|" "$root.env" ;;
      WORKDIR) folder=$rest; mkdir -p "$root$rest" ;;
      COPY)
        from=$work/context
        if [[ $rest == --from=* ]]; then from=$work/${rest%% *}; from=${from/--from=/}; rest=${rest#* }; fi
        # shellcheck disable=SC2086 # The source may have a wildcard.
        (shopt -s dotglob; cd "$root$folder"; to=${rest##* }; [[ $to == /* ]] && to=$root$to; from=$from/${rest% *}; [[ $from == */. ]] && from=${from%.}*; cp -a $from "$to") ;;
      RUN) echo "== $rest"; inside "$root" "$user" "$folder" sh -c "$rest" < /dev/null ;;
      ENTRYPOINT | CMD | HEALTHCHECK | EXPOSE | STOPSIGNAL | VOLUME) echo "$keyword $rest" >> "$root.image" ;;
      *) echo "unknown instruction $keyword" >&2; return 1 ;;
    esac
  done
  printf 'user=%s\nfolder=%s\n' "$user" "$folder" > "$root.start"
}

# The commands of docker that ops/compose.sh gives.
as_docker() {
  local SERVICE command=$2
  shift 2
  local -a options=()
  while [[ ${1:-} == -* ]]; do options+=("$1"); shift; done
  [ "$command" = build ] && return
  SERVICE=$1
  shift
  # shellcheck disable=SC1091
  . "$work/image.start"
  case "$command" in
    run) inside "$work/image" "$user" "$folder" flexmesh "$@" ;;
    exec) inside "$work/image" "$user" "$folder" "$@" ;;
    up)
      # shellcheck disable=SC2046 # The words of the command.
      (inside "$work/image" "$user" "$folder" flexmesh $(sed -n 's/^  command: \[\(.*\)\]$/\1/p' "$work/ops/compose.yaml" | tr -d ',"') > "$work/$SERVICE.log" 2>&1 < /dev/null) &
      ;;
    *) echo "docker compose $command is not known here" >&2; return 1 ;;
  esac
}

cleanup() {
  local service
  for service in hospital archive university; do
    # unshare ignores SIGTERM while its child runs.
    ip netns pids "flexmesh-$service" 2> /dev/null | xargs --no-run-if-empty kill -KILL || true
    ip netns del "flexmesh-$service" 2> /dev/null || true
  done
  ip link del "$bridge" 2> /dev/null || true
  rm -rf "$work"
}

if [ "${1:-}" = --as-docker ]; then
  shift
  as_docker "$@"
  exit
fi

trap cleanup EXIT
mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$work/base"
cp -L "$(node -p process.execPath)" "$work/base/usr/local/bin/node"
mkdir -p "$work/base/usr/local/lib/node_modules"
cp -a "$(npm root --global)/npm" "$work/base/usr/local/lib/node_modules/"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/base/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$work/base/usr/local/bin/npx"
cp /etc/resolv.conf "$work/base/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/"
[ ! -e ~/.npmrc ] || cp ~/.npmrc "$work/base/root"
chroot "$work/base" useradd --create-home --uid 1000 node

git -C "$repository" archive --format=tar --prefix=context/ HEAD | tar -x -C "$work"
instructions() { grep -vE '^(#|$)' "$repository/ops/Dockerfile" | awk -v wanted="$1" '/^FROM/ { stage++; next } stage == wanted'; }
instructions 1 | stage build
instructions 2 | stage image

echo '== the demo, as the user of the image'
# shellcheck disable=SC1091
. "$work/image.start"
inside "$work/image" "$user" /tmp flexmesh demo --once

echo '== three nodes with ops/compose.sh'
ip link add "$bridge" type bridge
ip link set "$bridge" up
ip addr add 10.213.0.1/24 dev "$bridge"
cp -a "$work/context/ops" "$work/ops"
number=1
for service in hospital archive university; do
  number=$((number + 1))
  ip netns add "flexmesh-$service"
  ip link add "fm-$number" type veth peer name eth0 netns "flexmesh-$service"
  ip link set "fm-$number" master "$bridge" up
  ip -n "flexmesh-$service" addr add "10.213.0.$number/24" dev eth0
  ip -n "flexmesh-$service" link set eth0 up
  ip -n "flexmesh-$service" link set lo up
  ip -n "flexmesh-$service" route add default dev eth0
  install -d -o 1000 -g 1000 -m 0700 "$work/volumes/$service"
done
mkdir "$work/bin"
printf '#!/bin/sh\nexec "%s" --as-docker "$@"\n' "$self" > "$work/bin/docker"
chmod +x "$work/bin/docker"
PATH="$work/bin:$PATH" "$work/ops/compose.sh"
number=1
for service in hospital archive university; do
  number=$((number + 1))
  curl --silent --show-error --fail --header 'Host: localhost' --header "Authorization: Bearer $(cat "$work/volumes/$service/api-key")" \
    "http://10.213.0.$number:8443/readyz"
done
echo 'the steps of the Dockerfile and of compose.sh work'
