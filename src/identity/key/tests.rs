use super::*;
use crate::identity::testing::{TestKey, rsa_jwk, rsa_pem};
use serde_json::json;

fn jwk(value: Value) -> Result<Key, KeyError> {
    Key::jwk(value.as_object().unwrap())
}

#[test]
fn the_library_works() {
    assert!(self_check());
}

#[test]
fn each_kind_of_key_permits_its_own_algorithms_only() {
    use Algorithm::{
        ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
    };
    let all = [
        HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA,
    ];
    let rows = [
        (Key::secret(&[7; 32]).unwrap(), &all[..3]),
        (Key::pem(&rsa_pem().1).unwrap(), &all[3..9]),
        (TestKey::es256().key(), &all[9..10]),
        (TestKey::es384().key(), &all[10..11]),
        (TestKey::ed25519().key(), &all[11..]),
    ];
    for (key, permitted) in rows {
        for algorithm in all {
            assert_eq!(
                key.permits(algorithm),
                permitted.contains(&algorithm),
                "{algorithm:?}"
            );
        }
    }
}

#[test]
fn a_public_key_is_no_secret_in_any_spelling() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let (_, public) = rsa_pem();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let body = format!("{header}.{}", URL_SAFE_NO_PAD.encode(r#"{"sub":"a"}"#));
    for secret in [
        public.as_str(),
        public.trim_end(),
        &public.replace('\n', ""),
    ] {
        let mac = crate::identity::mint::sign_hs256(secret.as_bytes(), body.as_bytes());
        let token = format!("{body}.{}", URL_SAFE_NO_PAD.encode(mac));
        let jws = crate::identity::jwt::Jws::read(&token).unwrap();
        let judged = jws.verify(&Key::pem(&public).unwrap());
        assert_eq!(judged, Err(crate::refusal::Refusal::AlgorithmRefused));
    }
}

#[test]
fn what_is_no_public_key_is_refused() {
    let (private, public) = rsa_pem();
    let es = TestKey::es256();
    assert_eq!(Key::pem(&private).unwrap_err(), KeyError::Private);
    assert_eq!(Key::pem(es.private_pem()).unwrap_err(), KeyError::Private);
    assert_eq!(Key::pem("").unwrap_err(), KeyError::Malformed);
    assert_eq!(Key::pem(&public[..100]).unwrap_err(), KeyError::Malformed);
    assert!(Key::pem(&es.public_pem()).is_ok());
    assert_eq!(Key::secret(&[0; 31]).unwrap_err(), KeyError::Weak);
}

#[test]
fn a_certificate_gives_its_key() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(vec!["issuer.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&pair).unwrap();
    assert!(
        Key::pem(&certificate.pem())
            .unwrap()
            .permits(Algorithm::ES256)
    );
}

#[test]
fn bad_jwks_are_refused_each_for_its_reason() {
    let good = TestKey::es256().jwk("a");
    let with = |name: &str, value: Value| {
        let mut jwk = good.clone();
        jwk[name] = value;
        jwk
    };
    let zeros = "A".repeat(43);
    let n1024 = "_".repeat(171);
    let rows = [
        (with("use", json!("enc")), KeyError::Purpose),
        (with("use", json!(1)), KeyError::Purpose),
        (with("key_ops", json!(["sign"])), KeyError::Purpose),
        (with("key_ops", json!("verify")), KeyError::Purpose),
        (with("alg", json!("ES384")), KeyError::AlgorithmMismatch),
        (with("alg", json!("HS256")), KeyError::AlgorithmMismatch),
        (with("alg", json!("none")), KeyError::Unsupported),
        (with("alg", json!(7)), KeyError::Malformed),
        (with("kid", json!("a\nb")), KeyError::Malformed),
        (with("kty", json!("RSA")), KeyError::Malformed),
        (with("kty", json!("XYZ")), KeyError::Unsupported),
        (with("crv", json!("P-384")), KeyError::Malformed),
        (with("crv", json!("secp256k1")), KeyError::Unsupported),
        (with("x", json!(zeros)), KeyError::OffCurve),
        (with("x", json!("AAAA")), KeyError::Malformed),
        (with("y", json!(null)), KeyError::Malformed),
        (json!({"kty": "oct", "k": "AAAA"}), KeyError::Weak),
        (
            json!({"kty": "RSA", "n": n1024, "e": "AQAB"}),
            KeyError::Malformed,
        ),
        (
            json!({"kty": "RSA", "n": &n1024[..168], "e": "AQAB"}),
            KeyError::Weak,
        ),
        (
            json!({"kty": "RSA", "n": "_".repeat(344), "e": "AQ"}),
            KeyError::Weak,
        ),
        (
            json!({"kty": "RSA", "n": "_".repeat(344), "e": "Ag"}),
            KeyError::Weak,
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": zeros}),
            KeyError::Weak,
        ),
        (
            json!({"kty": "OKP", "crv": "X25519", "x": zeros}),
            KeyError::Unsupported,
        ),
    ];
    assert!(jwk(good.clone()).is_ok());
    for (value, error) in rows {
        assert_eq!(jwk(value.clone()).unwrap_err(), error, "{value}");
    }
}

#[test]
fn a_jwks_alg_is_the_only_one() {
    let mut value = rsa_jwk("r");
    value["alg"] = json!("RS256");
    let key = jwk(value).unwrap();
    assert!(key.permits(Algorithm::RS256));
    assert!(!key.permits(Algorithm::RS384));
    assert!(!key.permits(Algorithm::PS256));
}

#[test]
fn debug_shows_no_key() {
    let shown = format!(
        "{:?}",
        Key::secret(b"0123456789abcdef0123456789abcdef").unwrap()
    );
    assert_eq!(shown, "Key(None)");
}

#[test]
fn a_signature_of_another_size_or_shape_is_refused() {
    let es = TestKey::es256();
    let token = es.mint(None, &json!({"sub": "a"}));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let good = decode(signature).unwrap();
    let (r, s) = good.split_at(32);
    let zeros = [0; 32];
    let ones = [0xff; 32];
    let der = [&[0x30, 0x44, 2, 32][..], r, &[2, 32], s].concat();
    let rows = [
        (good.clone(), true),
        (Vec::new(), false),
        (good[..63].to_vec(), false),
        ([&good[..], &[0]].concat(), false),
        (der, false),
        ([zeros, zeros].concat(), false),
        ([&zeros, s].concat(), false),
        ([r, &zeros].concat(), false),
        ([r, &ones].concat(), false),
        ([s, r].concat(), false),
    ];
    for (signature, valid) in rows {
        let verified = es
            .key()
            .verify(Algorithm::ES256, message.as_bytes(), &signature);
        assert_eq!(verified, valid, "{signature:?}");
    }
}

#[test]
fn points_of_small_order_are_neither_keys_nor_signatures() {
    let key = TestKey::ed25519().key();
    for mut point in SMALL_ORDER {
        for sign in [0, 0x80] {
            point[31] = point[31] & 0x7f | sign;
            assert_eq!(Material::ed25519(&point).err(), Some(KeyError::Weak));
            let signature = [point, [0; 32]].concat();
            assert!(!key.verify(Algorithm::EdDSA, b"", &signature));
        }
    }
}

#[test]
fn what_each_algorithm_mints_its_key_verifies() {
    use crate::identity::jwt::Jws;
    use crate::identity::mint::MintKey;
    let (private, public) = rsa_pem();
    let (es256, es384, ed) = (TestKey::es256(), TestKey::es384(), TestKey::ed25519());
    let secret = [7; 64];
    let rsa = Key::pem(&public).unwrap();
    let rows = [
        (Algorithm::HS256, None, Key::secret(&secret).unwrap()),
        (Algorithm::HS384, None, Key::secret(&secret).unwrap()),
        (Algorithm::HS512, None, Key::secret(&secret).unwrap()),
        (Algorithm::RS256, Some(private.as_str()), rsa.clone()),
        (Algorithm::RS384, Some(&private), rsa.clone()),
        (Algorithm::RS512, Some(&private), rsa.clone()),
        (Algorithm::PS256, Some(&private), rsa.clone()),
        (Algorithm::PS384, Some(&private), rsa.clone()),
        (Algorithm::PS512, Some(&private), rsa),
        (Algorithm::ES256, Some(es256.private_pem()), es256.key()),
        (Algorithm::ES384, Some(es384.private_pem()), es384.key()),
        (Algorithm::EdDSA, Some(ed.private_pem()), ed.key()),
    ];
    for (algorithm, pem, key) in rows {
        let minter = match pem {
            Some(pem) => MintKey::pem(algorithm, pem),
            None => MintKey::secret(algorithm, &secret),
        };
        let token = minter.unwrap().mint(&json!({"sub": "a"})).unwrap();
        let verified = Jws::read(&token).unwrap().verify(&key);
        assert_eq!(verified, Ok(()), "{algorithm:?}");
    }
}
