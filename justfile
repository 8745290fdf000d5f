# `just check` is what CI holds; the rest is for the day's work. See `just --list`.

# Everything that has to hold: format, lints, docs, tests, generated files.
check:
    ./scripts/check

# Formats all code.
fmt:
    cargo fmt --all

fmt-check:
    ./scripts/check format

clippy:
    ./scripts/check clippy

docs:
    ./scripts/check docs

# Runs all tests, or those that the arguments name.
test *args:
    ./scripts/test {{ args }}

# Runs everything in one process, on a private PostgreSQL.
dev *args:
    ./scripts/dev {{ args }}

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
    ./scripts/check generated

# Has promtool, nginx and docker compose read what they will read.
check-deploy:
    ./scripts/check-deploy

# Runs schemathesis, all phases and checks, against a server of its own.
schemathesis *args:
    ./scripts/schemathesis {{ args }}
