# `just check` is what CI holds; the rest is for the day's work. See `just --list`.

# Everything that has to hold: format, lints, tests, docs, generated files.
check: fmt-check clippy test docs openapi-check

# Formats all code.
fmt:
    cargo fmt --all

fmt-check:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Runs all tests, or those that the arguments name.
test *args:
    ./scripts/test {{ args }}

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Runs everything in one process, on a private PostgreSQL.
dev *args:
    cargo run --locked -- dev {{ args }}

# Shows in a minute what Sagaline is for.
demo *args:
    cargo run --locked -- demo {{ args }}

# Measures this machine.
bench *args:
    cargo run --release --locked -- bench {{ args }}

# Writes the API's contract anew.
openapi:
    cargo run --locked --quiet -- openapi > openapi/openapi.json.new
    mv openapi/openapi.json.new openapi/openapi.json

openapi-check:
    cargo run --locked --quiet -- openapi --check openapi/openapi.json

# Has promtool, nginx and docker compose read what they will read.
check-deploy:
    ./scripts/check-deploy

# Runs schemathesis, all phases and checks, against a server of its own.
schemathesis *args:
    ./scripts/schemathesis {{ args }}
