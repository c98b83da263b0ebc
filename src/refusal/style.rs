//! A refusal as an answer: the shape of its body, its headers, its language.

/// The shape of a refusal's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorStyle {
    #[default]
    /// `{"code","data","msg","error","request_id"}`.
    Envelope,
    /// RFC 9457 problem details.
    Problem,
    /// `{"detail"}`.
    Detail,
}
