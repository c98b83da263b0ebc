//! Secrets that stand in the file itself, which others than its owner can open: a warning that shows none of them.

use std::os::unix::fs::PermissionsExt;

use super::*;

const BY_NAME: &str = "${PORTCULLIS_JWT_SECRET}";
const PASSWORD: &str = "hunter2-9f8e7d6c5b4a3928";

/// `text` checked as a file of this mode: its warnings.
fn told(text: &str, mode: u32) -> String {
    let folder = std::env::temp_dir().join(format!("portcullis-config-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("portcullis.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    let warnings = parse(text, &file, &environment).unwrap().warnings;
    std::fs::remove_dir_all(&folder).unwrap();
    warnings.iter().map(ToString::to_string).collect()
}

/// The keys that hold `secret`, by the name that a warning calls them.
fn files(secret: &str) -> [(&'static str, String); 6] {
    let redis = "[redis]\nurl = \"redis://localhost\"";
    let supabase = "[api.supabase]\nmount = \"/a\"\nanon_keys = [\"sb_publishable_9f8e7d6c5b4a\"]";
    [
        (
            "[store] `url`",
            format!("[store]\nurl = \"postgres://me:{secret}@localhost/a\"\n{MINIMAL}"),
        ),
        (
            "[redis] `url`",
            format!("[redis]\nurl = \"redis://localhost?pass={secret}\"\n{MINIMAL}"),
        ),
        (
            "[redis] `nodes`",
            format!("{redis}\ncluster = true\nnodes = [\"redis://:{secret}@other\"]\n{MINIMAL}"),
        ),
        (
            "[redis] `sentinels`",
            format!(
                "[redis]\nurl = \"redis://main\"\nsentinels = [\"redis://:{secret}@other\"]\n{MINIMAL}"
            ),
        ),
        (
            "[api.supabase] `service_keys`",
            format!(
                "{ACCOUNTS}{supabase}\nservice_keys = [\"{BY_NAME}\", \"{secret}\"]\n{MINIMAL}"
            ),
        ),
        (
            "[issuer \"project\"] `secret`",
            MINIMAL.replace(BY_NAME, if secret == PASSWORD { SECRET } else { secret }),
        ),
    ]
}

#[test]
fn a_secret_that_is_written_out_where_others_can_read_it_is_a_warning() {
    for (key, text) in files(PASSWORD) {
        for mode in [0o644, 0o640, 0o604] {
            let shown = told(&text, mode);
            let expected =
                format!("{key} is written out in a file that others can open (mode {mode:04o})");
            assert!(shown.contains(&expected), "{key}: {shown}");
            assert!(
                !shown.contains(PASSWORD) && !shown.contains(SECRET),
                "{shown}"
            );
        }
        assert_eq!(told(&text, 0o600), "", "{key}");
    }
}

#[test]
fn a_secret_from_the_environment_and_a_name_without_a_password_are_none() {
    for (key, text) in files(BY_NAME) {
        assert_eq!(told(&text, 0o644), "", "{key}");
    }
    let user = format!("[store]\nurl = \"postgres://me@localhost/a\"\n{MINIMAL}");
    assert_eq!(told(&user, 0o644), "");
}
