# syntax=docker/dockerfile:1
# Builds the one binary and puts it alone on a slim system, run by a user without rights.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends pkg-config \
 && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin sagaline \
 && cp target/release/sagaline /sagaline

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin sagaline
COPY --from=build /sagaline /usr/local/bin/sagaline
USER sagaline
ENV HOST=0.0.0.0
EXPOSE 3000 3001 3002 3003 3004
STOPSIGNAL SIGTERM
ENTRYPOINT ["sagaline"]
CMD ["serve"]
