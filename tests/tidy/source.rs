//! Enough of Rust's lexical grammar to tell code from comments and strings, and to see where a function ends.

pub struct Source {
    /// Relative to the checkout.
    pub path: String,
    pub text: String,
    /// The text with comments, strings and characters blanked: the same lines, code only.
    code: String,
}

#[derive(Debug, PartialEq)]
pub struct Function<'a> {
    pub name: &'a str,
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

impl Source {
    pub fn new(path: String, text: String) -> Self {
        let code = code_of(&text);
        Self { path, text, code }
    }

    /// Every function that has a body, nested ones too.
    pub fn functions(&self) -> Vec<Function<'_>> {
        self.words("fn").filter_map(|at| self.function_at(at)).collect()
    }

    /// Where `word` stands by itself.
    pub fn lines_with_word(&self, word: &'static str) -> Vec<usize> {
        self.words(word).map(|at| self.line_of(at)).collect()
    }

    /// Where `pattern`, which has no spaces, begins; in the code there may be spaces and line breaks within it.
    pub fn lines_with_code(&self, pattern: &str) -> Vec<usize> {
        let solid: Vec<_> = self.code.char_indices().filter(|(_, character)| !character.is_whitespace()).collect();
        let wanted: Vec<_> = pattern.chars().collect();
        let found = solid.windows(wanted.len()).filter(|window| window.iter().map(|(_, found)| found).eq(&wanted));
        found.map(|window| self.line_of(window[0].0)).collect()
    }

    fn words(&self, word: &'static str) -> impl Iterator<Item = usize> + '_ {
        let bounded = move |at: usize| {
            let (before, after) = (self.code[..at].chars().next_back(), self.code[at + word.len()..].chars().next());
            !before.is_some_and(is_of_word) && !after.is_some_and(is_of_word)
        };
        self.code.match_indices(word).map(|(at, _)| at).filter(move |at| bounded(*at))
    }

    fn function_at(&self, start: usize) -> Option<Function<'_>> {
        let signature = &self.code[start..];
        let name = signature["fn".len()..].trim_start().split(|character| !is_of_word(character)).next()?;
        // `fn(u8)` is a type.
        if name.is_empty() {
            return None;
        }
        let body = start + body_of(signature)?;
        let end = body + closing_brace(&self.code[body..])?;
        let line = self.line_of(start);
        Some(Function { name, line, lines: self.line_of(end) - line + 1 })
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// Where the body begins; none for a function of a trait without one.
fn body_of(signature: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in signature.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.checked_sub(1)?,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Of code that begins with the opening one.
fn closing_brace(code: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let blank = length_of_blank(rest, code.chars().next_back().is_some_and(is_of_word));
        let (taken, after) = rest.split_at(blank.unwrap_or(next.len_utf8()));
        match blank {
            Some(_) => code.extend(taken.chars().map(|character| if character == '\n' { '\n' } else { ' ' })),
            None => code.push_str(taken),
        }
        rest = after;
    }
    code
}

/// The length of the comment or literal that `rest` begins with, if it does.
fn length_of_blank(rest: &str, within_word: bool) -> Option<usize> {
    match rest.as_bytes() {
        [b'/', b'/', ..] => Some(rest.find('\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(length_of_block_comment(rest)),
        [b'"', ..] => Some(length_of_string(rest)),
        [b'\'', ..] => length_of_character(rest),
        [b'r' | b'b' | b'c', ..] if !within_word => length_of_raw_string(rest),
        _ => None,
    }
}

/// Block comments nest.
fn length_of_block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn length_of_string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// None for a lifetime.
fn length_of_character(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    match (characters.next()?, characters.next()?) {
        // The character after the backslash may itself be a quote.
        ((_, '\\'), (at, escaped)) => {
            let after = at + escaped.len_utf8();
            Some(after + rest[after..].find('\'')? + 1)
        }
        (_, (at, '\'')) => Some(at + 1),
        _ => None,
    }
}

/// `r"…"`, `r#"…"#` and so on, for bytes and C strings too. None for anything else, `r#raw_identifier` among it.
fn length_of_raw_string(rest: &str) -> Option<usize> {
    let after_r = rest.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let quoted = after_r.trim_start_matches('#');
    let end = format!("\"{}", "#".repeat(after_r.len() - quoted.len()));
    let contents = quoted.strip_prefix('"')?;
    let opening = rest.len() - contents.len();
    Some(opening + contents.find(&end).map_or(contents.len(), |at| at + end.len()))
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[path = "source_tests.rs"]
#[cfg(test)]
mod tests;
