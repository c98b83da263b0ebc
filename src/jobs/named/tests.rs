//! What requests name, and what could be read in two ways.

use super::*;

const AMBIGUOUS: Result<Named, Refusal> = Err(Refusal::JobAmbiguous);
const NOT_OWNER: Result<Named, Refusal> = Err(Refusal::NotOwner);

fn named(names: &[&str]) -> Result<Named, Refusal> {
    Ok(Named::Names(
        names.iter().map(|name| (*name).into()).collect(),
    ))
}

fn pointer(text: &str) -> Pointer {
    let steps = text.split('/').skip(1).map(|step| match step {
        "*" => Step::Each,
        step => Step::Into(step.into()),
    });
    Pointer(steps.collect())
}

#[test]
fn one_parameter_of_the_query_is_read_once() {
    let names = [("filename".into(), None)];
    for (query, expected) in [
        ("", Ok(Named::Nothing)),
        ("a=b", Ok(Named::Nothing)),
        ("filename=a.png", named(&["a.png"])),
        ("x=1&filename=a+b%20c.png&y", named(&["a b c.png"])),
        ("file%6eame=a", named(&["a"])),
        ("filename=a%2Fb", named(&["a/b"])),
        ("filename=..%2F..%2Fa", named(&["../../a"])),
        ("filename=a%252Fb", named(&["a%2Fb"])),
        ("filename=", NOT_OWNER),
        ("filename=a%00b", NOT_OWNER),
        ("filename=a&filename=a", AMBIGUOUS),
        ("filename=a&filename=b", AMBIGUOUS),
        ("filename=a&Filename=b", AMBIGUOUS),
        ("FILENAME=a", AMBIGUOUS),
        ("filename[]=a", AMBIGUOUS),
        ("filename%5B0%5D=a&filename=b", AMBIGUOUS),
        ("filename=a&x=1;filename=b", AMBIGUOUS),
        ("filename=a;b", AMBIGUOUS),
        ("+filename=a", AMBIGUOUS),
        ("filename=%", AMBIGUOUS),
        ("%ff=a&filename=b", AMBIGUOUS),
    ] {
        assert_eq!(in_query(query, &names), expected, "{query}");
    }
}

#[test]
fn several_parameters_make_one_name_with_their_defaults() {
    let names = [
        ("type".into(), Some("output".into())),
        ("subfolder".into(), Some("".into())),
        ("filename".into(), None),
    ];
    let name = named(&[r#"["output","","a"]"#]);
    for (query, expected) in [
        ("filename=a", name.clone()),
        ("filename=a&type=output&subfolder=", name),
        ("type=temp&filename=a", named(&[r#"["temp","","a"]"#])),
        ("subfolder=b&filename=a", named(&[r#"["output","b","a"]"#])),
        ("type=output", NOT_OWNER),
        ("", Ok(Named::Nothing)),
        ("filename=a&subfolder=x&subfolder=y", AMBIGUOUS),
    ] {
        assert_eq!(in_query(query, &names), expected, "{query}");
    }
}

#[test]
fn members_of_a_body_are_read_strictly() {
    let one = [pointer("/job_id")];
    for (body, expected) in [
        (r#"{"job_id":"a"}"#, named(&["a"])),
        (r#"{"job_id":7}"#, named(&["7"])),
        (r#"{"\u006aob_id":"a"}"#, named(&["a"])),
        (r#"{"job_id":null}"#, Ok(Named::Nothing)),
        ("{}", Ok(Named::Nothing)),
        ("[]", Ok(Named::Nothing)),
        ("", Ok(Named::Nothing)),
        (" \n", Ok(Named::Nothing)),
        (r#"{"job_id":"a","job_id":"a"}"#, AMBIGUOUS),
        (r#"{"job_id":"a","\u006aob_id":"b"}"#, AMBIGUOUS),
        (r#"{"job_id":"a","x":{"y":1,"y":2}}"#, AMBIGUOUS),
        (r#"{"job_id":"a","Job_Id":"b"}"#, AMBIGUOUS),
        (r#"{"JOB_ID":"a"}"#, AMBIGUOUS),
        ("job_id=a", AMBIGUOUS),
        ("\u{feff}{\"job_id\":\"a\"}", AMBIGUOUS),
        (r#"{"job_id":"a"} {"job_id":"b"}"#, AMBIGUOUS),
        (r#"{"job_id":"a"#, AMBIGUOUS),
        (r#"{"job_id":1.0}"#, NOT_OWNER),
        (r#"{"job_id":["a"]}"#, NOT_OWNER),
        (r#"{"job_id":""}"#, NOT_OWNER),
    ] {
        assert_eq!(in_body(body.as_bytes(), &one), expected, "{body}");
    }
}

#[test]
fn every_element_of_a_list_is_named() {
    let each = [pointer("/delete/*")];
    let body = |text: &str| in_body(text.as_bytes(), &each);
    assert_eq!(body(r#"{"delete":["a","b",3]}"#), named(&["a", "b", "3"]));
    assert_eq!(body(r#"{"delete":["a",{}]}"#), NOT_OWNER);
    assert_eq!(body(r#"{"delete":[]}"#), Ok(Named::Nothing));
    let parts = [pointer("/a"), pointer("/b")];
    let body = |text: &str| in_body(text.as_bytes(), &parts);
    assert_eq!(body(r#"{"a":"x","b":1}"#), named(&[r#"["x","1"]"#]));
    assert_eq!(body(r#"{"a":"x"}"#), NOT_OWNER);
}

proptest::proptest! {
    #[test]
    fn no_query_names_anything_but_its_one_decoded_value(query in "[a-cf;&=%2F+\\[\\]A]{0,24}") {
        let names = [("f".into(), None)];
        if let Ok(Named::Names(found)) = in_query(&query, &names) {
            let all: Vec<_> = query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .filter(|(name, _)| form_decode(name).is_some_and(|name| name == "f"))
                .map(|(_, value)| form_decode(value).unwrap().into_owned())
                .collect();
            proptest::prop_assert_eq!(found.len(), 1);
            proptest::prop_assert_eq!(all, vec![found[0].to_string()]);
        }
    }
}
