use std::path::Path;

use http::Request;

use super::*;
use crate::config::Config;
use crate::identity::Identity;
use crate::identity::testing::identity;
use crate::request::head::HeadRules;
use crate::request::peer::Peer;

struct Scene {
    limits: Limits,
    rules: Option<Rules>,
    near: Near,
    head: Head,
}

fn config(text: &str) -> Config {
    let text = format!(
        "[[issuer]]\nname = \"i\"\niss = \"i\"\naudience = [\"a\"]\nalgorithms = [\"HS256\"]\n\
         secret = \"b5Lw0yT9Qm3ZcXeR7vUaK1oNhJ4sGdFp\"\n\
         [[upstream]]\nname = \"u\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [[route]]\nname = \"r\"\npath = \"/{{*rest}}\"\nupstream = \"u\"\nauth = \"optional\"\n{text}\n"
    );
    crate::config::parse(&text, Path::new("test.toml"), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn head(config: &Config, lines: &[(&str, &str)]) -> Head {
    let mut request = Request::get("/a").header("host", "here");
    for (name, value) in lines {
        if *name == "method" {
            request = request.method(*value);
        } else {
            request = request.header(*name, *value);
        }
    }
    let peer = Peer {
        address: "192.0.2.1".parse().ok(),
        secure: false,
    };
    let mut parts = request.body(()).unwrap().into_parts().0;
    Head::read(&mut parts, peer, &HeadRules::build(&config.server)).unwrap()
}

impl Scene {
    fn of(text: &str, meters: &Arc<Meters>) -> Self {
        let config = config(text);
        Self {
            limits: Limits::build(
                &config.limits,
                &Counts {
                    meters: Arc::clone(meters),
                    shared: None,
                },
                Clock::manual(86_400 * 20_000),
                &Metrics::new(1),
            ),
            rules: Rules::build(&config.routes[0], &config.limits),
            near: Near::default(),
            head: head(&config, &[]),
        }
    }

    fn new(text: &str) -> Self {
        Self::of(text, &Arc::default())
    }

    fn admission(&self) -> Admission<'_> {
        self.limits.admission(self.rules.as_ref(), &self.near)
    }

    fn ask(&self, caller: &Caller) -> Result<(), Refusal> {
        self.ask_with(caller, &self.head)
    }

    fn ask_with(&self, caller: &Caller, head: &Head) -> Result<(), Refusal> {
        now(self.admission().admit(Ask {
            permit: &Permit::for_test(caller.clone()),
            head,
            at: Instant::now(),
        }))
    }
}

/// What waits for nothing where nobody shares.
fn now<T>(what: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(what).unwrap()
}

fn user(name: &str) -> Caller {
    Caller::Known(Arc::new(identity(name, 1000)))
}

/// One an hour, and three at once.
const THREE: &str = "[[limits.class]]\nname = \"all\"\nrate = 1\nper = \"1h\"\nburst = 3\n";

fn how_many(scene: &Scene, caller: &Caller) -> usize {
    (0..10).filter(|_| scene.ask(caller).is_ok()).count()
}

#[test]
fn each_user_has_counts_of_its_own_whatever_token_it_comes_with() {
    let scene = Scene::new(THREE);
    assert_eq!(how_many(&scene, &user("one")), 3);
    assert_eq!(how_many(&scene, &user("one")), 0, "by another token");
    assert_eq!(how_many(&scene, &user("two")), 3);
    assert_eq!(how_many(&scene, &Caller::Guest), 3);
}

#[test]
fn a_user_of_another_issuer_is_another() {
    let scene = Scene::new(THREE);
    let of = |issuer: &str| {
        Caller::Known(Arc::new(Identity {
            issuer: issuer.into(),
            ..identity("u", 1000)
        }))
    };
    assert_eq!(how_many(&scene, &of("one")), 3);
    assert_eq!(how_many(&scene, &of("two")), 3);
}

#[test]
fn a_reload_keeps_the_counts() {
    let meters = Arc::default();
    let caller = user("one");
    assert_eq!(how_many(&Scene::of(THREE, &meters), &caller), 3);
    // Every configuration verifies tokens anew.
    let caller = user("one");
    assert_eq!(how_many(&Scene::of(THREE, &meters), &caller), 0);
}

#[test]
fn a_bucket_of_a_routes_own_counts_apart() {
    let meters = Arc::default();
    let shared = Scene::of(THREE, &meters);
    let own = Scene::of(
        &format!("[route.limits]\nbucket = \"own\"\n{THREE}"),
        &meters,
    );
    let caller = user("one");
    assert_eq!(how_many(&shared, &caller), 3);
    assert_eq!(how_many(&own, &caller), 3);
    assert_eq!(how_many(&shared, &caller), 0);
    assert_eq!(how_many(&own, &caller), 0);
}

#[test]
fn a_preflight_is_not_counted() {
    let scene = Scene::new(THREE);
    let preflight = head(
        &config(""),
        &[
            ("method", "OPTIONS"),
            ("origin", "https://page.test"),
            ("access-control-request-method", "POST"),
        ],
    );
    for _ in 0..10 {
        scene.ask_with(&Caller::Guest, &preflight).unwrap();
    }
    assert_eq!(how_many(&scene, &Caller::Guest), 3);
}

#[test]
fn a_request_that_can_only_become_a_stream_is_refused_before_it_is_one() {
    let scene = Scene::new("[[limits.class]]\nname = \"all\"\nstreams = 1\n");
    let caller = user("one");
    let permit = Permit::for_test(caller.clone());
    let mut open = scene.admission();
    let lease = now(open.stream(&permit)).unwrap().unwrap();
    for (accept, refused) in [
        ("text/event-stream", true),
        ("text/event-stream;q=0.9", true),
        ("application/json, text/event-stream", false),
        ("*/*", false),
    ] {
        let head = head(&config(""), &[("accept", accept)]);
        let told = scene.ask_with(&caller, &head);
        assert_eq!(told == Err(Refusal::StreamsExceeded), refused, "{accept}");
        let mut late = scene.admission();
        assert_eq!(
            now(late.stream(&permit)).err(),
            Some(Refusal::StreamsExceeded)
        );
        assert_eq!(late.retry_after(), Some(5));
    }
    drop(lease);
    assert!(now(scene.admission().stream(&permit)).unwrap().is_some());
}

#[test]
fn a_refusal_tells_what_there_is_and_when_to_come_back() {
    let text =
        "[[limits.class]]\nname = \"all\"\nrate = 1\nper = \"20s\"\nburst = 2\ndaily = 100\n";
    let scene = Scene::new(text);
    let caller = user("one");
    scene.ask(&caller).unwrap();
    scene.ask(&caller).unwrap();
    let mut admission = scene.admission();
    let told = now(admission.admit(Ask {
        permit: &Permit::for_test(caller),
        head: &scene.head,
        at: Instant::now(),
    }));
    assert_eq!(told, Err(Refusal::RateLimited));
    let mut headers = HeaderMap::new();
    admission.tell(StatusCode::TOO_MANY_REQUESTS, &mut headers);
    let shown: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            "ratelimit-policy: \"all\";q=2;w=40, \"all-daily\";q=100;w=86400",
            "ratelimit: \"all\";r=0;t=40, \"all-daily\";r=98;t=86400",
            "ratelimit-limit: 2",
            "ratelimit-remaining: 0",
            "ratelimit-reset: 20",
            "retry-after: 20",
        ]
    );
}

#[test]
fn what_is_left_is_told_where_the_file_says_so() {
    for (headers, count) in [("true", 5), ("false", 0)] {
        let scene = Scene::new(&format!("[limits]\nheaders = {headers}\n"));
        let mut admission = scene.admission();
        let ask = Ask {
            permit: &Permit::for_test(user("one")),
            head: &scene.head,
            at: Instant::now(),
        };
        now(admission.admit(ask)).unwrap();
        let mut told = HeaderMap::new();
        admission.tell(StatusCode::OK, &mut told);
        assert_eq!(told.len(), count);
        assert!(!told.contains_key("retry-after"));
    }
}
