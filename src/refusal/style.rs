//! Prints a refusal as a response: the three body styles, the language, `WWW-Authenticate`.
