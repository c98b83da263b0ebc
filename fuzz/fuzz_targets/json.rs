//! The strict reader of JSON objects: what it takes, another reader takes too, and reads alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::identity::json;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let strict = json::parse_object(input);
    if let Ok(object) = &strict {
        let other: Value = serde_json::from_slice(input).expect("it is JSON");
        assert_eq!(Value::Object(object.clone()), other);
    }
    if let Ok(Some(text)) = json::read_member(input, "iss") {
        if let Ok(object) = &strict {
            assert_eq!(object["iss"], Value::String(text));
        }
    }
});
