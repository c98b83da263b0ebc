//! The head of a request, normalized once: every rung above sees this and nothing else.
