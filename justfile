# `just check` checks what CI checks; the other recipes are for everyday work. `just --list` shows them.

# Checks format, dependencies, lints, docs, tests, generated files and the files of the deployment.
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

# Checks licences, sources and versions of the dependencies; `advisories` checks for known vulnerabilities.
dependencies:
    ./scripts/check dependencies

advisories:
    ./scripts/check advisories

# Runs all tests, or those named by the arguments.
test *args:
    ./scripts/test {{ args }}

# Runs everything in one process, on a private PostgreSQL.
dev *args:
    ./scripts/dev {{ args }}

# Shows what Sagaline does when processes and servers fail.
demo *args:
    cargo run --locked -- demo {{ args }}

# Measures this machine.
bench *args:
    cargo run --profile dist --locked -- bench {{ args }}

# Generates openapi/openapi.json, the API's contract.
openapi:
    cargo run --locked --quiet -- openapi > openapi/openapi.json.new
    mv openapi/openapi.json.new openapi/openapi.json

openapi-check:
    ./scripts/check generated

# Checks the files of the deployment with promtool, nginx and docker compose.
check-deploy:
    ./scripts/check-deploy

# Runs schemathesis, all phases and checks, against a separate server.
schemathesis *args:
    ./scripts/schemathesis {{ args }}

# Lints the contract, and has generated clients use a separate server.
clients *args:
    ./scripts/clients {{ args }}
