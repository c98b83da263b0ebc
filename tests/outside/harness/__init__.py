"""What the tests stand on: the gateway as a process, upstreams of several tempers, tokens, raw sockets."""
