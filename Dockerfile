# syntax=docker/dockerfile:1
# Builds the one binary and puts it alone on an image that holds nothing else: no shell, no package manager, no client.
# It runs as a user without rights, on a read-only file system if it is given one.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends pkg-config \
 && rm -rf /var/lib/apt/lists/*
COPY . .
# The commit, for the metric sagaline_build_info.
ARG REVISION=unknown
# The caches outlive a build, so that only what has changed is compiled.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    SAGALINE_REVISION="$REVISION" cargo build --release --locked --bin sagaline \
 && strip --strip-debug target/release/sagaline -o /sagaline

# glibc of the same Debian, libgcc, CA certificates; the user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /sagaline /usr/local/bin/sagaline
ENV HOST=0.0.0.0
EXPOSE 3000 3001 3002 3003 3004
STOPSIGNAL SIGTERM
# For `serve` at PORT; other commands are asked at their own ports, as the compose files do.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["sagaline", "health"]
ENTRYPOINT ["sagaline"]
CMD ["serve"]
