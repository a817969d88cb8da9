//! The rules of the house, as far as a program can check them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Lines of a source file. Comfortable is 300.
const FILE_LINES: usize = 600;

/// Lines of a function, its signature and braces included: a screen.
const FUNCTION_LINES: usize = 80;

/// The options of every subcommand, read from the table in `cli.rs`.
pub(crate) fn options() -> BTreeMap<String, Vec<String>> {
    let mut options = options_in("src/cli.rs");
    assert_eq!(options.keys().collect::<Vec<_>>(), ["id", "nat", "relay", "run"]);
    assert!(options["run"].len() >= 18 && options["id"].len() >= 6, "{options:?}");
    for (name, of_ctl) in options_in("src/cli/ctl.rs") {
        options.insert(if name == "ctl" { name } else { format!("ctl {name}") }, of_ctl);
    }
    assert!(options.contains_key("ctl") && options.contains_key("ctl listen"), "{options:?}");
    options
}

fn options_in(file: &str) -> BTreeMap<String, Vec<String>> {
    let source = read(file);
    let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut subcommand, mut is_option) = (None, false);
    for line in source.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("subcommand, name = \"") {
            subcommand = rest.split('"').next();
        } else if line == "}" {
            subcommand = None;
        } else if line.starts_with("#[argh(option") || line.starts_with("#[argh(switch") {
            is_option = true;
        } else if let Some(field) = line.strip_prefix("pub ")
            && std::mem::take(&mut is_option)
            && let Some(subcommand) = subcommand
        {
            let name = field.split(':').next().expect("a name").replace('_', "-");
            options.entry(subcommand.into()).or_default().push(name);
        }
    }
    options
}

#[test]
fn the_readme_names_every_option() {
    let readme = read("README.md");
    for (subcommand, options) in options() {
        for option in options {
            let named =
                readme.lines().any(|line| line.starts_with('|') && line.contains(&format!("`--{option}")));
            assert!(named, "README.md's table lacks --{option} of 'warren {subcommand}'");
        }
    }
}

/// `src/face/json.rs` is the one module that knows the schema, so it knows all the names.
#[test]
fn the_readme_names_all_of_the_json_schema() {
    let readme = read("README.md");
    let source = read("src/face/json.rs");
    let source = source.split("#[cfg(test)]").next().expect("what comes before the tests");
    let mut names = Vec::new();
    for call in [
        "Object::event(\"",
        "member(\"",
        ".text(\"",
        ".show(\"",
        ".number(\"",
        ".maybe(\"",
        ".maybe_number(\"",
        ".array(\"",
        "code: \"",
        "=> \"",
    ] {
        names.extend(source.split(call).skip(1).filter_map(|rest| rest.split('"').next()));
    }
    let commands = source.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "));
    names.extend(commands.map(|(name, _)| name));
    assert!(names.len() > 60, "this test has lost its way into json.rs: {names:?}");
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "README.md says nothing of '{name}'");
    }
}

#[test]
fn no_source_is_left_unfinished() {
    for (path, code) in sources(&["src", "tests", "bench"]) {
        for word in ["dbg!", "todo!", "unimplemented!", "FIXME", "XXX"] {
            assert!(!code.contains(word), "{path} contains {word}");
        }
    }
}

#[test]
fn nothing_unwraps_outside_of_tests() {
    for (path, code) in sources(&["src"]) {
        let code = code.split("#[cfg(test)]\nmod tests {").next().expect("what comes before the tests");
        if !path.ends_with("/tests.rs") && !path.contains("/tests/") {
            for word in [".unwrap()", ".expect(", ".unwrap_unchecked("] {
                assert!(!code.contains(word), "{path} contains {word}");
            }
        }
    }
}

#[test]
fn files_and_functions_stay_short() {
    for (path, code) in sources(&["src", "tests", "bench"]) {
        let lines = code.lines().count();
        assert!(lines <= FILE_LINES, "{path} has {lines} lines; split it");
        for (name, lines) in functions(&code) {
            assert!(lines <= FUNCTION_LINES, "{path}: {name} has {lines} lines; split it");
        }
    }
}

#[test]
fn every_bound_says_why_and_is_used() {
    let limits: String = [
        &["src/limits.rs"][..],
        &["src/limits/discovery.rs", "src/limits/nat.rs", "src/limits/transport.rs", "src/limits/web.rs"],
    ]
    .concat()
    .into_iter()
    .map(read)
    .collect();
    let lines: Vec<&str> = limits.lines().collect();
    let code: String = sources(&["src"]).into_iter().map(|(_, code)| code).collect();
    let mut bounds = 0;
    for (i, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("pub const ") else { continue };
        let name = rest.split(':').next().expect("a name");
        assert!(i > 0 && lines[i - 1].starts_with("///"), "limits.rs: {name} has no doc comment");
        assert!(words(&code).filter(|word| *word == name).count() > 1, "limits.rs: {name} bounds nothing");
        bounds += 1;
    }
    assert!(bounds > 30, "this test has lost its way into limits.rs");
}

#[test]
fn every_feature_says_what_it_is() {
    let manifest = read("Cargo.toml");
    let features = manifest.split("\n[features]\n").nth(1).expect("features");
    let features: Vec<&str> = features.split("\n[").next().expect("their end").lines().collect();
    let header = manifest.lines().position(|line| line == "[features]").expect("features");
    let above = manifest.lines().nth(header - 1).unwrap_or_default();
    for (i, line) in features.iter().enumerate().filter(|(_, line)| line.contains(" = [")) {
        let before = if i == 0 { above } else { features[i - 1] };
        assert!(before.starts_with("# "), "Cargo.toml: nothing is said of the feature {line}");
    }
}

/// Decisions 1, 2 and 3 of the design: our own transports, ring, and nothing that 32-bit MIPS cannot build.
#[test]
fn what_must_not_be_shipped_is_not_in_the_tree() {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "tree",
        "--locked",
        "--offline",
        "--package",
        "warren",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]);
    let output =
        command.args(["--all-features", "--format", "{p}"]).current_dir(root()).output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("text");
    assert!(tree.lines().count() > 50, "{tree}");
    for line in tree.lines() {
        let name = line.split(' ').next().expect("a name");
        let unwanted =
            ["tokio", "aws-lc", "openssl", "native-tls", "libp2p-request-response", "libp2p-rendezvous"];
        assert!(!unwanted.iter().any(|bad| name.starts_with(bad)), "{name} is in the tree");
        assert!(!["quinn", "async-std", "serde_json"].contains(&name), "{name} is in the tree");
    }
}

#[test]
fn nothing_committed_knows_the_machine_it_was_written_on() {
    let files = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(files) = files.ok().filter(|output| output.status.success()) else {
        println!("skipped: this is no checkout");
        return;
    };
    let words = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    for file in String::from_utf8(files.stdout).expect("text").split_terminator('\0') {
        // Files that are deleted but not yet committed so, and pictures, say nothing.
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for word in words {
            assert!(!text.contains(word), "{file} contains {word}");
        }
    }
}

#[test]
fn a_function_is_counted_from_its_name_to_its_end() {
    let code = blank(
        "fn a(x: &str) -> bool {\n  x == \"}\" // }\n}\n/* fn no() {\n*/ fn b<'a>() {\n  '{'; r#\"}\"}\"#\n\n}",
    );
    assert_eq!(functions(&code), [("a".to_owned(), 3), ("b".to_owned(), 4)]);
    assert_eq!(functions("fn a() -> [u8; 3] {\n}"), [("a".to_owned(), 2)]);
    assert_eq!(functions("trait T { fn a(&self); fn b(&self) {\n} }"), [("b".to_owned(), 2)]);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All Rust files below some directories, by their paths, without what is in comments and literals.
fn sources(dirs: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut dirs: Vec<PathBuf> = dirs.iter().map(|dir| root().join(dir)).collect();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below it").display().to_string();
                files.push((name, blank(&fs::read_to_string(&path).expect("text"))));
            }
        }
    }
    assert!(!files.is_empty());
    files
}

/// The code with comments and literals blanked out, line by line where it was.
fn blank(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut i = 0;
    while i < chars.len() {
        let end = skip(&chars, i);
        if end == i {
            code.push(chars[i]);
            i += 1;
        } else {
            code.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            i = end;
        }
    }
    code
}

/// Where the comment or literal that begins at `i` ends; `i` if none does.
fn skip(chars: &[char], i: usize) -> usize {
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let find = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        (from..chars.len()).find(|i| chars[*i..].starts_with(&end)).map_or(chars.len(), |i| i + end.len())
    };
    let is_inside_a_word = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
    match (at(i), at(i + 1)) {
        ('/', '/') => (i..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len()),
        ('/', '*') => find(i + 2, "*/"),
        ('r', '"' | '#') if !is_inside_a_word || at(i - 1) == 'b' => {
            let hashes = (i + 1..).take_while(|i| at(*i) == '#').count();
            match at(i + 1 + hashes) {
                '"' => find(i + 2 + hashes, &format!("\"{}", "#".repeat(hashes))),
                // A raw identifier.
                _ => i,
            }
        }
        ('"', _) => end_of_quoted(chars, i),
        // A character; otherwise the name of a lifetime.
        ('\'', '\\') => end_of_quoted(chars, i),
        ('\'', _) if at(i + 2) == '\'' => i + 3,
        _ => i,
    }
}

/// Behind the quote that closes the one at `i`.
fn end_of_quoted(chars: &[char], i: usize) -> usize {
    let mut end = i + 1;
    while end < chars.len() && chars[end] != chars[i] {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

/// The functions of some blanked code with their lines; those inside of others are counted with both.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut functions = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_a_word = code[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        let name = words(&code[at + 3..]).next().unwrap_or_default();
        if !is_a_word || name.is_empty() {
            continue;
        }
        let (mut depth, mut brackets, mut lines) = (0, 0, 1);
        for c in code[at..].chars() {
            match c {
                '[' | '(' => brackets += 1,
                ']' | ')' => brackets -= 1,
                '{' => depth += 1,
                '}' if depth == 1 => {
                    functions.push((name.to_owned(), lines));
                    break;
                }
                '}' => depth -= 1,
                ';' if depth == 0 && brackets == 0 => break,
                '\n' => lines += 1,
                _ => {}
            }
        }
    }
    functions
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}
