FROM rust:1-bookworm AS build
WORKDIR /build

# Builds only the dependencies. The layer is reused until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo '//! Placeholder for the sources.' | tee src/lib.rs > src/main.rs \
    && echo 'fn main() {}' >> src/main.rs \
    && cargo build --release --locked --bin streamgate \
    && rm -r src

# Cargo compares modification times, and the sources may be older than the placeholder.
COPY assets assets
COPY src src
RUN find src assets -type f -exec touch {} + \
    && cargo build --release --locked --bin streamgate

# Everything that the binary needs at run time: its libraries, the CA certificates for `rediss://` and
# `jwks_url`, and the order in which names are resolved. An image without a shell has less to attack.
RUN mkdir -p /image/etc/ssl/certs /image/usr/local/bin /image/tmp \
    && chmod 1777 /image/tmp \
    && cp target/release/streamgate /image/usr/local/bin/ \
    && ldd target/release/streamgate | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} /image \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf


FROM scratch

COPY --from=build /image /

# A numeric user, so that an orchestrator can verify that it is not root.
USER 10001:10001

# Loopback is not reachable from outside the container. On any other address, the gateway starts only
# with authentication or with STREAMGATE_INSECURE=true.
ENV STREAMGATE_LISTEN=0.0.0.0:8080
EXPOSE 8080

# The health check reads the same settings: set them by environment or STREAMGATE_CONFIG, not by flags.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["streamgate", "healthcheck"]

STOPSIGNAL SIGTERM
ENV PATH=/usr/local/bin
ENTRYPOINT ["streamgate"]
CMD ["serve"]
