# shellcheck shell=bash
# A `sagaline dev` for scripts that check a running server: on a database of its own that is thrown away. To be sourced
# after setup.sh; it sets `scratch`, `port`, `base`, `binary` and `server`.

scratch="$(mktemp -d)"
chmod 0711 "$scratch"
server=

end_server() {
  if [[ -n "$server" ]]; then kill -TERM "$server" 2>/dev/null && wait "$server" || true; fi
  rm -rf "$scratch"
}
trap end_server EXIT

# Builds the program, unless SAGALINE names one.
find_binary() {
  binary="${SAGALINE:-}"
  if [[ -n "$binary" ]]; then return; fi
  cargo build --quiet --locked --bin sagaline
  binary="${CARGO_TARGET_DIR:-target}/debug/sagaline"
}

# start_server PORT NAME=VALUE…: starts it with these settings and waits until it is ready.
start_server() {
  port="$1" base="http://127.0.0.1:$1"
  shift
  env -u DATABASE_URL -u REDIS_URL -u AMQP_URL -u SMTP_URL -u AUTH SAGALINE_STATE_DIR="$scratch/state" PORT="$port" \
    LOG_FORMAT=json "$@" "$binary" dev >"$scratch/dev.log" 2>&1 &
  server=$!
  for _ in $(seq 600); do
    if curl -fsS -o /dev/null "$base/health/ready" 2>/dev/null; then return; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  cat "$scratch/dev.log" >&2
  die "the server did not become ready"
}
