# sidecarbon alone: one static binary, the root certificates, and the licences.
# No shell, no package manager, no C library to keep up to date.
#
#   docker build -t sidecarbon .
#
# How to run it: docs/install-container.md. Every setting has an environment
# name, so no file is needed.
#
# As it is, it listens on localhost: a sidecar shares the loopback of its pod,
# and whoever reaches the address can write into the account. Where the clients
# are in other network namespaces (docker run -p, Compose without network_mode,
# hostPort), that has to be said: SIDECARBON_LISTEN_UDP=0.0.0.0:2003 and the
# same for _TCP. sidecarbon then warns, once, that it can be reached.

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /build

# Writes the list of crates into the binary, for scanners such as trivy,
# grype and cargo audit.
RUN cargo install cargo-auditable --version 0.7.7 --locked --root /usr/local

# Static, so that nothing else has to be in the image. The C library is glibc's,
# whose allocator the memory limits were measured with; of its resolver, "files"
# and "dns" are part of it, and other sources of names have no place in a
# container. Only where a target is named are build scripts left out of this.
ENV RUSTFLAGS="-C target-feature=+crt-static"

# The dependencies, in a layer that lasts until the lock file changes: sources
# that are empty stand in for ours.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches \
    && touch src/lib.rs && echo 'fn main() {}' >src/main.rs \
    && for bench in $(sed -n '/^\[\[bench]]/,/^$/s/^name = "\(.*\)"/\1/p' Cargo.toml); do \
           touch "benches/$bench.rs"; \
       done \
    && cargo auditable build --release --locked --target "$(rustc --print host-tuple)" \
    && rm -r src

# The touch makes the sources newer than what was just built from the empty ones.
COPY config config
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo auditable build --release --locked --target "$(rustc --print host-tuple)"

# The whole root file system, so that it becomes one layer.
COPY LICENSE-APACHE LICENSE-MIT ./
RUN mkdir -p /image/etc/ssl/certs /image/licenses \
    && cp "target/$(rustc --print host-tuple)/release/sidecarbon" /image/ \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && cp LICENSE-APACHE LICENSE-MIT /image/licenses/ \
    && echo 'hosts: files dns' >/image/etc/nsswitch.conf


FROM scratch
COPY --from=build /image /

# Logs to standard output: JSON, but text on a terminal. And at SIGTERM, which
# the application gets at the same time, its last words are waited for; all
# within the eight seconds of shutdown.grace, since Docker kills after ten.
ENV SIDECARBON_LOG_FORMAT=container \
    SIDECARBON_SHUTDOWN_QUIET=2s

# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 65532:65532
EXPOSE 2003/tcp 2003/udp 2023/tcp
# Its question takes eight seconds at most, and then has an answer.
HEALTHCHECK --interval=10s --timeout=9s --start-period=5s --retries=3 \
    CMD ["/sidecarbon", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/sidecarbon"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sidecarbon" \
      org.opencontainers.image.description="A Graphite endpoint on localhost that adds the API key, survives outages in memory and forwards over TLS, TCP, UDP or HTTP" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
