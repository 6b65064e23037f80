FROM rust:1-bookworm AS build
WORKDIR /build

# Dependencies alone: this layer stays until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo '//! In place of the sources.' | tee src/lib.rs > src/main.rs \
    && echo 'fn main() {}' >> src/main.rs \
    && cargo build --release --locked --bin streamgate \
    && rm -r src

# Cargo goes by modification times, and sources may be older than what was built in their place.
COPY assets assets
COPY src src
RUN find src assets -type f -exec touch {} + \
    && cargo build --release --locked --bin streamgate


FROM debian:bookworm-slim

# The slim image has none. `rediss://` and `jwks_url` believe these, unless told which to believe.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/streamgate /usr/local/bin/streamgate

# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001

# Within a container loopback reaches nobody. On another address the gateway starts only with
# authentication, or with STREAMGATE_INSECURE=true from whoever runs the container.
ENV STREAMGATE_LISTEN=0.0.0.0:8080
EXPOSE 8080

# Follows the same settings: give them as environment or by STREAMGATE_CONFIG, not as flags.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["streamgate", "healthcheck"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["streamgate"]
CMD ["serve"]
