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


FROM debian:bookworm-slim

# The slim image has no CA certificates. `rediss://` and `jwks_url` use these by default.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/streamgate /usr/local/bin/streamgate

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
ENTRYPOINT ["streamgate"]
CMD ["serve"]
