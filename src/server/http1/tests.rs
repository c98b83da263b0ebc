//! The server side of HTTP/1.1: its parts by tables, and the whole beside hyper's server.
