# The binary, the few libraries that it is linked with, and nothing else: no shell, no package manager. Run by nobody.
#
#   docker build -t portcullis .
#   docker run -p 8080:8080 -e PORTCULLIS_JWT_SECRET=… \
#       -v ./portcullis.toml:/etc/portcullis/portcullis.toml:ro portcullis
#
# With [accounts], also: -v portcullis:/var/lib/portcullis, [store] url = "sqlite:/var/lib/portcullis/portcullis.db", and
# [accounts] secret = "${PORTCULLIS_SECRET}" or secret_file = "/var/lib/portcullis/portcullis.secret".
#
# In there [server] listen must be "0.0.0.0:8080"; the health check asks [admin] on its default port.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked && cp target/release/portcullis /portcullis

# The root of the image: the binary, its libraries and their loader where it looks for them.
RUN mkdir /root-of-image && cd /root-of-image \
    && ldd /portcullis | grep -o '/[^ ]*' | xargs cp --parents --dereference --target-directory=. \
    && cp --parents /portcullis /etc/ssl/certs/ca-certificates.crt . \
    # Users, sessions and keys, where the config says so: a volume takes its owner from here.
    && install -d -m 700 -o 65532 -g 65532 var/lib/portcullis \
    # What SQLite sorts and does not keep in memory.
    && install -d -m 1777 tmp

FROM scratch
COPY --from=build /root-of-image /
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["/portcullis", "probe", "http://127.0.0.1:9901/healthz"]
ENTRYPOINT ["/portcullis"]
CMD ["run", "--config", "/etc/portcullis/portcullis.toml"]
