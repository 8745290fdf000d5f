# syntax=docker/dockerfile:1
# Builds the binary and puts it on an image without a shell, a package manager or other programs. It runs as an
# unprivileged user, and works on a read-only file system.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends pkg-config \
 && rm -rf /var/lib/apt/lists/*
COPY . .
# The commit that the metric sagaline_build_info shows.
ARG REVISION=unknown
# The caches are kept between builds, so that only changed code is compiled.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    SAGALINE_REVISION="$REVISION" cargo build --profile dist --locked --bin sagaline \
 && strip --strip-debug target/dist/sagaline -o /sagaline

# This image has the same Debian's glibc, libgcc and CA certificates; its user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /sagaline /usr/local/bin/sagaline
ENV HOST=0.0.0.0
EXPOSE 3000 3001 3002 3003 3004
STOPSIGNAL SIGTERM
# For `serve` at PORT. Other commands listen at other ports, so the compose files have their own health checks.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["sagaline", "health"]
ENTRYPOINT ["sagaline"]
CMD ["serve"]
