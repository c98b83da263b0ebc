//! Every way to say no: a stable word, a status, a text in English and Chinese.
//! The word is the client's `error`, the log's `reason` and the metric's label alike.
//! `style.rs` prints a refusal as a body.

pub mod language;
pub mod style;

use http::StatusCode;

/// What a client is told when a request is refused. Small and free of secrets by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table below says what each one means")]
pub enum Refusal {
    RequestMalformed,
    PathUnsafe,
    HostInvalid,
    HostUnknown,
    MethodRefused,
    UriTooLong,
    HeadersTooLarge,
    BodyTooLarge,
    BodyTimeout,
    BodyInvalid,
    CredentialsConflict,
    CredentialMalformed,
    TokenMissing,
    TokenMalformed,
    TokenExpired,
    TokenNotYetValid,
    TokenSignatureInvalid,
    TokenClaimsInvalid,
    TokenRevoked,
    TicketInvalid,
    TicketInUse,
    TicketsExceeded,
    TicketsUnavailable,
    AlgorithmRefused,
    KeyUnknown,
    IssuerUnknown,
    AudienceMismatch,
    KeysUnavailable,
    StoreUnavailable,
    RoleMissing,
    ConditionFailed,
    OriginForbidden,
    RateLimited,
    QuotaExceeded,
    StreamsExceeded,
    LimitsUnavailable,
    RouteNotFound,
    NotOwner,
    JobAmbiguous,
    JobNotKept,
    UpgradeRefused,
    WebsocketVersion,
    UpstreamUnavailable,
    UpstreamFailed,
    UpstreamTimeout,
    UpstreamDisconnected,
    AuthExpired,
    AuthRevoked,
    Draining,
    Internal,
}

/// One row of the table: everything that is known of a refusal.
#[derive(Debug)]
pub struct Row {
    /// Which refusal the row describes.
    pub refusal: Refusal,
    /// The stable machine word.
    pub word: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The English text.
    pub en: &'static str,
    /// The Chinese text.
    pub zh: &'static str,
}

/// The language of a refusal's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

impl Refusal {
    /// The stable machine word.
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        self.row().status
    }

    /// The text in `language`.
    pub fn text(self, language: Language) -> &'static str {
        match language {
            Language::En => self.row().en,
            Language::Zh => self.row().zh,
        }
    }

    /// Whether it says something about the caller (401, 403, 429), not about the request or the service: these
    /// are worth telling to a client that cannot read a status.
    pub fn is_about_caller(self) -> bool {
        matches!(self.status().as_u16(), 401 | 403 | 429)
    }

    /// Whether it says nothing of the credential: what is needed to judge it is not there. Whoever brought it is no guest
    /// then, and no user either.
    pub fn leaves_unjudged(self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable | Self::StoreUnavailable | Self::TicketsUnavailable
        )
    }

    /// The table's row; the table stands in the order of the enum.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The refusal with this word.
    pub fn find(word: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| row.word == word)
            .map(|row| row.refusal)
    }
}

/// One row; a status that is none fails the build.
const fn row(
    refusal: Refusal,
    word: &'static str,
    status: u16,
    en: &'static str,
    zh: &'static str,
) -> Row {
    let Ok(status) = StatusCode::from_u16(status) else {
        panic!("a row's status is an HTTP status")
    };
    Row {
        refusal,
        word,
        status,
        en,
        zh,
    }
}

/// Every refusal, in the order of the enum.
#[rustfmt::skip]
pub static TABLE: &[Row] = &[
    row(Refusal::RequestMalformed, "request_malformed", 400, "The request is not well-formed HTTP", "请求格式错误"),
    row(Refusal::PathUnsafe, "path_unsafe", 400, "The path holds something that could be read in two ways", "路径不安全"),
    row(Refusal::HostInvalid, "host_invalid", 400, "The Host is missing, doubled or not a host name", "Host 无效"),
    row(Refusal::HostUnknown, "host_unknown", 421, "This host name is not served here", "未提供该域名的服务"),
    row(Refusal::MethodRefused, "method_refused", 405, "This method is not served", "不支持的请求方法"),
    row(Refusal::UriTooLong, "uri_too_long", 414, "The request target is too long", "请求地址过长"),
    row(Refusal::HeadersTooLarge, "headers_too_large", 431, "The request's headers are too large", "请求头过大"),
    row(Refusal::BodyTooLarge, "body_too_large", 413, "The request's body is too large", "请求体过大"),
    row(Refusal::BodyTimeout, "body_timeout", 408, "The request's body stopped arriving", "请求体接收超时"),
    row(Refusal::BodyInvalid, "body_invalid", 400, "The request's body is not what this call takes", "请求体内容无效"),
    row(Refusal::CredentialsConflict, "credentials_conflict", 400, "The request carries two different credentials", "请求中包含互相冲突的凭证"),
    row(Refusal::CredentialMalformed, "credential_malformed", 401, "The credential cannot be read", "凭证格式错误"),
    row(Refusal::TokenMissing, "token_missing", 401, "A token is needed", "缺少Token，请登录"),
    row(Refusal::TokenMalformed, "token_malformed", 401, "The token is not well-formed", "Token格式错误"),
    row(Refusal::TokenExpired, "token_expired", 401, "The token has expired", "Token已过期"),
    row(Refusal::TokenNotYetValid, "token_not_yet_valid", 401, "The token is not valid yet", "Token尚未生效"),
    row(Refusal::TokenSignatureInvalid, "token_signature_invalid", 401, "The token's signature is not valid", "Token签名无效"),
    row(Refusal::TokenClaimsInvalid, "token_claims_invalid", 401, "A claim of the token is missing or not valid", "Token声明无效"),
    row(Refusal::TokenRevoked, "token_revoked", 401, "The token has been revoked", "Token已被撤销"),
    row(Refusal::TicketInvalid, "ticket_invalid", 401, "The ticket is used up, too old, or for something else", "票据无效或已使用"),
    row(Refusal::TicketInUse, "ticket_in_use", 401, "The stream that this ticket opened is still open", "该票据打开的连接仍未结束"),
    row(Refusal::TicketsExceeded, "tickets_exceeded", 429, "Too many tickets at once: use them first", "票据过多，请先使用已有票据"),
    row(Refusal::TicketsUnavailable, "tickets_unavailable", 503, "Tickets cannot be looked up at the moment", "票据服务暂不可用，请稍后再试"),
    row(Refusal::AlgorithmRefused, "algorithm_refused", 401, "The token's algorithm is not allowed", "Token算法不被允许"),
    row(Refusal::KeyUnknown, "key_unknown", 401, "No known key signed this token", "未知的签名密钥"),
    row(Refusal::IssuerUnknown, "issuer_unknown", 401, "The token's issuer is not known", "未知的Token签发者"),
    row(Refusal::AudienceMismatch, "audience_mismatch", 401, "The token is meant for another audience", "Token受众不匹配"),
    row(Refusal::KeysUnavailable, "keys_unavailable", 503, "The issuer's keys are not available yet", "签名密钥暂不可用，请稍后再试"),
    row(Refusal::StoreUnavailable, "store_unavailable", 503, "The user store is not available at the moment", "用户数据暂不可用，请稍后再试"),
    row(Refusal::RoleMissing, "role_missing", 403, "A role that this needs is missing", "权限不足：缺少所需角色"),
    row(Refusal::ConditionFailed, "condition_failed", 403, "A condition of this route does not hold", "权限不足"),
    row(Refusal::OriginForbidden, "origin_forbidden", 403, "The page's origin may not use this", "来源不被允许"),
    row(Refusal::RateLimited, "rate_limited", 429, "Too many requests: wait before the next", "请求过于频繁，请稍后再试"),
    row(Refusal::QuotaExceeded, "quota_exceeded", 429, "Today's number of requests is used up", "今日请求次数已用完"),
    row(Refusal::StreamsExceeded, "streams_exceeded", 429, "Too many streams at once", "同时打开的连接过多"),
    row(Refusal::LimitsUnavailable, "limits_unavailable", 503, "Requests cannot be counted at the moment", "限流服务暂不可用，请稍后再试"),
    row(Refusal::RouteNotFound, "route_not_found", 404, "There is nothing here", "资源不存在"),
    row(Refusal::NotOwner, "not_owner", 404, "There is nothing of yours under this name", "没有属于您的此资源"),
    row(Refusal::JobAmbiguous, "job_ambiguous", 400, "The request names a job or file in a way that could be read in two ways", "任务或文件的标识存在歧义"),
    row(Refusal::JobNotKept, "job_not_kept", 503, "It could not be noted yet whose job this is; try again shortly", "任务归属暂未登记，请稍后再试"),
    row(Refusal::UpgradeRefused, "upgrade_refused", 400, "This upgrade is not served", "不支持的协议升级"),
    row(Refusal::WebsocketVersion, "websocket_version", 426, "WebSocket version 13 is needed", "需要WebSocket协议版本13"),
    row(Refusal::UpstreamUnavailable, "upstream_unavailable", 503, "The service is not available", "服务暂不可用"),
    row(Refusal::UpstreamFailed, "upstream_failed", 502, "The service gave no usable answer", "服务响应异常"),
    row(Refusal::UpstreamTimeout, "upstream_timeout", 504, "The service took too long", "服务响应超时"),
    row(Refusal::UpstreamDisconnected, "upstream_disconnected", 502, "The service broke off", "服务连接中断"),
    row(Refusal::AuthExpired, "auth_expired", 401, "The login behind this stream has expired", "登录已过期，连接已关闭"),
    row(Refusal::AuthRevoked, "auth_revoked", 403, "This stream is no longer allowed", "权限已被撤销，连接已关闭"),
    row(Refusal::Draining, "draining", 503, "The gateway is shutting down", "网关正在关闭"),
    row(Refusal::Internal, "internal", 500, "The gateway failed", "网关内部错误"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_enum() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.refusal as usize, at, "{}", row.word);
        }
        assert_eq!(Refusal::Internal as usize + 1, TABLE.len());
    }

    #[test]
    fn words_are_unique() {
        for row in TABLE {
            assert_eq!(Refusal::find(row.word), Some(row.refusal));
        }
    }
}
