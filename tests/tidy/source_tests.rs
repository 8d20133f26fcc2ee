//! What looks like code and is none, and what looks like none and is.

use super::*;

fn source(text: &str) -> Source {
    Source::new("example.rs".to_owned(), text.to_owned())
}

#[test]
fn comments_and_literals_are_blanked_and_lines_kept() {
    let cases = [
        ("let a = 1; // {", "let a = 1;"),
        ("a /* { /* } */ \n { */ b", "a b"),
        (r#"f("{ \" }", x)"#, "f( , x)"),
        ("f(\"{\n}\")", "f( )"),
        (r##"f(r#"{ " }"#)"##, "f( )"),
        (r#"f(br"\", b"{", cr"}")"#, "f( , b , )"),
        (r"f('{', '\'', '\\', '\u{7d}', b'}')", "f( , , , , b )"),
        ("fn f<'a>(x: &'a str, y: &'_ u8) {}", "fn f<'a>(x: &'a str, y: &'_ u8) {}"),
        ("r#fn; for x in y {}", "r#fn; for x in y {}"),
        ("bar\"{\"", "bar"),
        ("'ä' 'loop: {}", "'loop: {}"),
    ];
    for (text, expected) in cases {
        let code = code_of(text);
        assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
    }
}

#[test]
fn functions_are_measured_from_signature_to_closing_brace() {
    let text = "
trait Shape {
    fn area(&self) -> [f32; 4];
}
const F: fn(u8) = one_line;
fn one_line(_: u8) {}
pub async fn outer<'a, T>(
    first: [u8; 2],
) -> Result<(), T>
where
    T: Fn(u8) -> u8,
{
    // }
    fn inner() {
        let _ = '}';
    }
}
";
    let source = source(text);
    let found: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("one_line", 6, 1), ("outer", 7, 11), ("inner", 14, 3)]);
}

#[test]
fn words_and_code_are_found_where_they_are_code() {
    let source = source("// warp\nuse warp::Filter;\nlet warped = \"warp\";\nActor::spawn(\n    Some(name),\n);\n");
    assert_eq!(source.lines_with_word("warp"), [2]);
    assert_eq!(source.lines_with_code("spawn(Some("), [4]);
    assert_eq!(source.lines_with_code("todo!"), [0; 0]);
}
