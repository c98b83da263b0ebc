# A static binary in an otherwise empty image, run by nobody.
#
#   docker build -t portcullis .
#   docker run -p 8080:8080 -e PORTCULLIS_JWT_SECRET=… \
#       -v ./portcullis.toml:/etc/portcullis/portcullis.toml:ro portcullis
#
# With [accounts], also: -v portcullis:/var/lib/portcullis, and [store] url = "sqlite:/var/lib/portcullis/portcullis.db".
#
# In there [server] listen must be "0.0.0.0:8080"; the health check asks [admin] on its default port.

FROM rust:1.95-alpine AS build
# For the C parts, cryptography and allocator; Alpine's toolchain links them statically.
RUN apk add --no-cache build-base cmake linux-headers ca-certificates
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked && cp target/release/portcullis /portcullis

# Users, sessions and keys, where the config says so: a volume takes its owner from here.
RUN install -d -m 700 -o 65532 -g 65532 /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /portcullis /portcullis
COPY --from=build --chown=65532:65532 /data /var/lib/portcullis
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/portcullis", "probe", "http://127.0.0.1:9901/healthz"]
ENTRYPOINT ["/portcullis"]
CMD ["run", "--config", "/etc/portcullis/portcullis.toml"]
