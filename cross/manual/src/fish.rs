//! The completion for fish.

use crate::table::{Command, Value, brief};

pub(crate) fn page(warren: &Command) -> String {
    let mut text = String::from(HEAD);
    for command in warren.all() {
        let here = condition(command);
        for below in &command.commands {
            text += &format!(
                "complete -c warren -f -n '{here}' -a {} -d {}\n",
                below.name,
                quoted(brief(&below.about))
            );
        }
        for option in &command.options {
            let short = option.short.map(|c| format!(" -s {c}")).unwrap_or_default();
            let value = match &option.value {
                None => String::new(),
                Some((_, Value::Own)) => " -x".into(),
                Some((_, Value::File)) => " -r -F".into(),
                Some((_, Value::Directory)) => " -x -a '(__fish_complete_directories)'".into(),
                Some((_, Value::OneOf(words))) => format!(" -x -a '{}'", words.join(" ")),
            };
            let about = quoted(option.brief());
            text += &format!("complete -c warren -n '{here}' -l {}{short}{value} -d {about}\n", option.long);
        }
    }
    text
}

const HEAD: &str = "# fish completion for warren. Made by cross/manual from warren's own table of options.
complete -c warren -f
";

/// When the words so far lead to this command and no further.
fn condition(command: &Command) -> String {
    let below: Vec<&str> = command.commands.iter().map(|c| c.name.as_str()).collect();
    let mut conditions: Vec<String> =
        command.path.split_whitespace().map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
    // `warren ctl nat` is not `warren nat`.
    if !command.path.starts_with("ctl") && !command.path.is_empty() {
        conditions.push("not __fish_seen_subcommand_from ctl".into());
    }
    match below[..] {
        [] => {}
        _ => conditions.push(format!("not __fish_seen_subcommand_from {}", below.join(" "))),
    }
    conditions.join("; and ")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
