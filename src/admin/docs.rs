//! `/docs`: Swagger UI over `/openapi.json`, from this binary alone. Its files lie beside this one as its project
//! publishes them (Apache-2.0, see `swagger-ui/`), compressed; every browser reads them so.

use http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::faces::page;

/// The file at this path of the admin listener.
pub fn find(path: &str) -> Option<Response<Body>> {
    let (kind, bytes, encoding) = match path {
        "/docs" | "/docs/" => ("text/html; charset=utf-8", PAGE.as_bytes(), None),
        "/docs/start.js" => ("text/javascript; charset=utf-8", START.as_bytes(), None),
        "/docs/swagger-ui.js" => ("text/javascript; charset=utf-8", SCRIPT, Some("gzip")),
        "/docs/swagger-ui.css" => ("text/css; charset=utf-8", STYLE, Some("gzip")),
        _ => return None,
    };
    let mut response = page::page(kind, StatusCode::OK, bytes);
    let mut insert = |name: HeaderName, value: &'static str| {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    };
    insert(CONTENT_SECURITY_POLICY, POLICY);
    insert(X_CONTENT_TYPE_OPTIONS, "nosniff");
    if let Some(encoding) = encoding {
        insert(CONTENT_ENCODING, encoding);
    }
    Some(response)
}

/// Nothing from elsewhere, and nobody may frame it. The pictures are in the style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src data:; connect-src 'self'; frame-ancestors 'none'";

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Portcullis: the gateway's own APIs</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

/// The calls stand on another port, which this page may not reach: it shows them, and sends none.
const START: &str = "SwaggerUIBundle({url: '/openapi.json', dom_id: '#swagger-ui', \
                     supportedSubmitMethods: [], validatorUrl: null});\n";

static SCRIPT: &[u8] = include_bytes!("swagger-ui/swagger-ui-bundle.js.gz");
static STYLE: &[u8] = include_bytes!("swagger-ui/swagger-ui.css.gz");
