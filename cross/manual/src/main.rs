//! Writes warren's man page and its completions for bash, zsh and fish, all from the one table of options in
//! `src/cli.rs`. Packages take them from `cross/manual/pages`; a test here says when those are not current.

mod bash;
mod fish;
mod man;
mod table;
mod zsh;

use std::{fs, path::Path, process::ExitCode};

use table::Command;

const USAGE: &str = "usage: warren-manual man|bash|zsh|fish, or warren-manual --write DIR";

/// A page: how it is asked for, its name as a file, and what writes it.
type Page = (&'static str, &'static str, fn(&Command) -> String);

const PAGES: [Page; 4] = [
    ("man", "warren.1", man::page),
    ("bash", "warren.bash", bash::page),
    ("zsh", "_warren", zsh::page),
    ("fish", "warren.fish", fish::page),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        ["--write", dir] => write(Path::new(dir)),
        [kind] => print(kind),
        _ => Err(USAGE.into()),
    };
    if let Err(message) = result {
        eprintln!("warren-manual: {message}");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

fn print(kind: &str) -> Result<(), String> {
    let (_, _, page) =
        PAGES.iter().find(|(name, ..)| *name == kind).ok_or(format!("no page '{kind}'; {USAGE}"))?;
    print!("{}", page(&Command::warren()));
    Ok(())
}

fn write(dir: &Path) -> Result<(), String> {
    let warren = Command::warren();
    for (_, file, page) in PAGES {
        let path = dir.join(file);
        fs::write(&path, page(&warren)).map_err(|e| format!("cannot write '{}': {e}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packages_take_is_current() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("pages");
        let warren = Command::warren();
        for (_, file, page) in PAGES {
            let there = fs::read_to_string(dir.join(file)).unwrap_or_default();
            let remedy = "cargo run -p warren-manual -- --write cross/manual/pages";
            assert!(there == page(&warren), "cross/manual/pages/{file} is old; run {remedy}");
        }
    }
}
