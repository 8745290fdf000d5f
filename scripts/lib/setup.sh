# shellcheck shell=bash
# What the scripts of this folder share: messages, and the programs that they need. To be sourced from bash, in the
# repository's root.
#
# `require cc postgresql …` makes sure that programs are there. Where it may (as root, or with a sudo that asks no
# password, on Debian and its kin; with Homebrew as anybody) it installs what is missing; elsewhere it says what to
# install, all of it at once, and ends the script.

say() { printf '%s\n' "$*" >&2; }
die() { say "$@" && exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

may_be_root() { [[ "$(id -u)" == 0 ]] || { have sudo && sudo -n true 2>/dev/null; }; }
as_root() { if [[ "$(id -u)" == 0 ]]; then "$@"; else sudo -n "$@"; fi; }

# Debian keeps servers here, which a user's PATH leaves out; rustup's programs are not in that of a shell older than it.
PATH="$PATH:/usr/sbin:/sbin"
# shellcheck source=/dev/null
if ! have cargo && [[ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]]; then . "${CARGO_HOME:-$HOME/.cargo}/env"; fi

have_cc() { have cc; }
have_redis() { [[ -n "${SAGALINE_REDIS_BIN:-}" ]] || have redis-server || have valkey-server; }
have_compose() { docker compose version >/dev/null 2>&1 || have docker-compose; }

# Cargo of the version that Cargo.toml asks for; rustup has it by rust-toolchain.toml.
have_rust() {
  local needed found
  needed="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
  found="$(cargo --version 2>/dev/null | cut -d ' ' -f 2)" || return 1
  [[ -n "$found" && "$(printf '%s\n' "$needed" "$found" | sort -V | head -n 1)" == "$needed" ]]
}

# The same places as devkit/src/postgres/binaries.rs; `initdb` tells a server from a mere client.
have_postgresql() {
  local dir
  if [[ -n "${SAGALINE_PG_BIN:-}" ]]; then
    [[ -x "$SAGALINE_PG_BIN/initdb" && -x "$SAGALINE_PG_BIN/postgres" ]]
    return
  fi
  for dir in "$(pg_config --bindir 2>/dev/null || true)" ${PATH//:/ } \
    /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* /usr/local/pgsql/bin \
    /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
    /home/linuxbrew/.linuxbrew/opt/postgresql*/bin \
    /Applications/Postgres.app/Contents/Versions/*/bin /opt/local/lib/postgresql*/bin; do
    if [[ -n "$dir" && -x "$dir/initdb" && -x "$dir/postgres" ]]; then return 0; fi
  done
  return 1
}

# The same places as devkit/src/rabbitmq.rs.
have_rabbitmq() {
  local script
  [[ -n "${SAGALINE_RABBITMQ_BIN:-}" ]] && return
  for script in /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server \
    /opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server /usr/local/opt/rabbitmq/sbin/rabbitmq-server; do
    if [[ -x "$script" ]]; then return 0; fi
  done
  have rabbitmq-server
}

# The same places as devkit/src/pgbouncer.rs.
have_pgbouncer() { [[ -n "${SAGALINE_PGBOUNCER_BIN:-}" ]] || have pgbouncer; }

is_there() {
  case "$1" in
    cc | rust | postgresql | pgbouncer | redis | rabbitmq | compose) "have_$1" ;;
    clippy) cargo clippy --version >/dev/null 2>&1 ;;
    rustfmt) cargo fmt --version >/dev/null 2>&1 ;;
    *) have "$1" ;;
  esac
}

# Debian's packages for it; none where Debian has nothing that fits.
debian_packages() {
  case "$1" in
    cc) echo gcc libc6-dev ;;
    postgresql) echo postgresql ;;
    redis) echo redis-server ;;
    rabbitmq) echo rabbitmq-server ;;
    compose) echo docker-compose ;;
    promtool) echo prometheus ;;
    nginx) echo nginx-light ;;
    python3) echo python3 python3-venv ;;
    rust | clippy | rustfmt) ;;
    *) echo "$1" ;;
  esac
}

# Homebrew's formula for it.
formula() {
  case "$1" in
    postgresql) echo postgresql@17 ;;
    compose) echo docker-compose ;;
    promtool) echo prometheus ;;
    python3) echo python ;;
    cc | rust | clippy | rustfmt) ;;
    *) echo "$1" ;;
  esac
}

# What to do by hand where this may not install it, or does not know how.
advice() {
  case "$1" in
    cc) echo "a C compiler and linker: apt-get install gcc libc6-dev, dnf install gcc, or xcode-select --install" ;;
    rust)
      if have cargo; then
        echo "Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml) (this is $(cargo --version 2>/dev/null || echo "a cargo that does not start")):" \
          "see https://rustup.rs; rust-toolchain.toml then chooses the version by itself"
      else
        echo "Rust: see https://rustup.rs; rust-toolchain.toml then chooses the version by itself"
      fi
      ;;
    clippy | rustfmt) echo "$1: rustup component add $1" ;;
    postgresql)
      echo "PostgreSQL's server: apt-get install postgresql, dnf install postgresql-server, or" \
        "brew install postgresql@17; or set SAGALINE_PG_BIN to the folder that holds postgres and initdb"
      ;;
    redis)
      echo "redis-server: apt-get install redis-server, dnf install redis, or brew install redis;" \
        "or set SAGALINE_REDIS_BIN to the program"
      ;;
    rabbitmq)
      echo "rabbitmq-server: apt-get install rabbitmq-server, dnf install rabbitmq-server, or brew install rabbitmq;" \
        "or set SAGALINE_RABBITMQ_BIN to its sbin/rabbitmq-server"
      ;;
    pgbouncer)
      echo "pgbouncer: apt-get install pgbouncer, dnf install pgbouncer, or brew install pgbouncer;" \
        "or set SAGALINE_PGBOUNCER_BIN to the program"
      ;;
    compose) echo "docker compose" ;;
    promtool) echo "promtool: it comes with Prometheus (apt-get install prometheus)" ;;
    *) echo "$1" ;;
  esac
}

# Installs Debian's packages and starts none of their servers, which only their programs are needed of. Debian's
# PostgreSQL would make a cluster, too, on port 5432.
apt_install() (
  policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.conf
  if [[ ! -e "$policy" ]]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
  fi
  if [[ ! -e "$clusters" ]]; then
    as_root mkdir -p "${clusters%/*}"
    printf 'create_main_cluster = false\n' | as_root tee "$clusters" >/dev/null
  fi
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "$@" >&2
)

# Installs what it can of what is missing.
install_missing() {
  local name packages=() formulae=()
  for name; do
    # shellcheck disable=SC2207 # names of packages have no spaces
    packages+=($(debian_packages "$name")) formulae+=($(formula "$name"))
  done
  # The version and the components of rust-toolchain.toml.
  if [[ " $* " =~ " "(rust|clippy|rustfmt)" " ]] && have rustup; then rustup toolchain install >&2 || true; fi
  if have apt-get && may_be_root; then
    if ((${#packages[@]} > 0)); then apt_install "${packages[@]}"; fi
  elif have brew && ((${#formulae[@]} > 0)); then
    brew install "${formulae[@]}" >&2
  fi
}

require() {
  local name missing=() lacking=()
  for name; do is_there "$name" || missing+=("$name"); done
  if ((${#missing[@]} == 0)); then return; fi
  say "missing: ${missing[*]}"
  install_missing "${missing[@]}"
  hash -r
  for name in "${missing[@]}"; do is_there "$name" || lacking+=("$name"); done
  if ((${#lacking[@]} == 0)); then return; fi
  say "This needs what could not be installed here; install it and run this again:"
  for name in "${lacking[@]}"; do say "  - $(advice "$name")"; done
  exit 1
}
