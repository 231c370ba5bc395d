# sidecarbon, the C library and root certificates: no shell, no package manager, no root.
#
#   docker build -t sidecarbon .
#   docker run --rm -e SIDECARBON_SINK_URL=tls://carbon.hostedgraphite.com:20030 \
#       -e SIDECARBON_API_KEY_FILE=/run/secrets/api-key -v "$PWD/api-key:/run/secrets/api-key:ro" sidecarbon
#
# Every setting has an environment name, so no file is needed. As it is, it listens on
# localhost, which the containers of a pod share. Where they have a network namespace each
# (Compose, docker run -p), say SIDECARBON_LISTEN_UDP=0.0.0.0:2003 and the same for _TCP.

FROM rust:1-slim-bookworm AS build
WORKDIR /src

# The dependencies, in a layer that lasts until the lock file changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs \
    && cargo build --release --locked \
    && rm -r src

# The touch makes the sources newer than what was just built from the empty ones.
COPY config config
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

# glibc, libgcc and the root certificates.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/sidecarbon /sidecarbon

# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 65532:65532
EXPOSE 2003/tcp 2003/udp 2023/tcp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/sidecarbon"]
