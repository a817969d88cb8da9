//! warren's commands and options as its own parser declares them, with what shells want to know beyond that: what a
//! value may be.

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind, Optionality};

/// A command: `warren` itself, `warren run`, `warren ctl send`, ...
#[derive(Debug)]
pub(crate) struct Command {
    /// The words that lead to it, as `ctl send`; empty for `warren` itself.
    pub(crate) path: String,
    /// The last of these words, and `warren` for warren itself.
    pub(crate) name: String,
    /// What it does, in one or two sentences.
    pub(crate) about: String,
    pub(crate) options: Vec<Choice>,
    pub(crate) operands: Vec<Operand>,
    pub(crate) commands: Vec<Command>,
}

/// An option, without the dashes.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) long: String,
    pub(crate) short: Option<char>,
    /// The name of the value, if it takes one, and what that may be.
    pub(crate) value: Option<(String, Value)>,
    pub(crate) repeats: bool,
    pub(crate) about: String,
}

/// A word without dashes.
#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) name: String,
    pub(crate) repeats: bool,
    pub(crate) about: String,
}

/// What a shell can propose for a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// Nothing: only the user knows.
    Own,
    File,
    Directory,
    OneOf(&'static [&'static str]),
}

/// The values that are one word of a few, by command and option.
const WORDS: [(&str, &str, &[&str]); 5] = [
    ("run", "dht", &["private", "public", "off"]),
    ("relay", "dht", &["private", "off"]),
    ("run", "log-format", &["full", "timed", "plain", "journal"]),
    ("relay", "log-format", &["full", "timed", "plain", "journal"]),
    ("id", "key-type", &["secp256k1", "ed25519"]),
];

impl Command {
    /// warren with all that it can do.
    pub(crate) fn warren() -> Self {
        Self::new(String::new(), &warren::cli::Warren::get_args_info())
    }

    /// This command and all below it, from the top down.
    pub(crate) fn all(&self) -> Vec<&Command> {
        let mut all = vec![self];
        all.extend(self.commands.iter().flat_map(Command::all));
        all
    }

    fn new(path: String, info: &CommandInfoWithArgs) -> Self {
        let below = |name: &str| if path.is_empty() { name.into() } else { format!("{path} {name}") };
        let commands = info.commands.iter().map(|c| Self::new(below(c.name), &c.command)).collect();
        let options = info.flags.iter().filter(|flag| !flag.hidden).map(|flag| {
            let long = flag.long.trim_start_matches("--").to_owned();
            let value = match flag.kind {
                FlagInfoKind::Switch => None,
                FlagInfoKind::Option { arg_name } => Some((arg_name.into(), value(&path, &long, arg_name))),
            };
            // The only switch that counts is --verbose; argh calls all of them optional.
            let repeats = flag.optionality == Optionality::Repeating || long == "verbose";
            // argh has no short name for help, but `help_triggers` takes it everywhere.
            let short = if long == "help" { Some('h') } else { flag.short };
            Choice { long, short, value, repeats, about: flag.description.into() }
        });
        let operands = info.positionals.iter().map(|operand| Operand {
            name: operand.name.into(),
            repeats: matches!(operand.optionality, Optionality::Repeating | Optionality::Greedy),
            about: operand.description.into(),
        });
        Self {
            options: options.collect(),
            operands: operands.collect(),
            name: if path.is_empty() { "warren".into() } else { info.name.into() },
            about: info.description.trim().into(),
            commands,
            path,
        }
    }
}

impl Choice {
    /// The description without its asides, for a list of proposals.
    pub(crate) fn brief(&self) -> &str {
        brief(&self.about)
    }
}

/// Up to the first aside: what stands in brackets, after a semicolon or after a full stop.
pub(crate) fn brief(about: &str) -> &str {
    let end = [" (", "; ", ". ", ": "].iter().filter_map(|s| about.find(s)).min();
    about[..end.unwrap_or(about.len())].trim_end_matches('.')
}

fn value(path: &str, long: &str, arg_name: &str) -> Value {
    match (WORDS.iter().find(|(command, option, _)| (*command, *option) == (path, long)), arg_name) {
        (Some((.., words)), _) => Value::OneOf(words),
        (None, "path" | "file") => Value::File,
        (None, "dir") => Value::Directory,
        (None, _) => Value::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_a_few_is_one_that_the_help_names() {
        let warren = Command::warren();
        for (command, option, words) in WORDS {
            let command = warren.commands.iter().find(|c| c.name == command).expect(command);
            let option = command.options.iter().find(|o| o.long == option).expect(option);
            for word in words {
                assert!(option.about.contains(word), "'{word}' is not in: {}", option.about);
            }
        }
    }

    /// The completions find the command among the words typed so far, and skip the values of options.
    #[test]
    fn an_option_takes_a_value_in_all_commands_or_in_none() {
        let warren = Command::warren();
        let options: Vec<&Choice> = warren.all().into_iter().flat_map(|c| &c.options).collect();
        for option in &options {
            let alike = options.iter().filter(|o| o.long == option.long);
            assert!(alike.clone().all(|o| o.value.is_some() == option.value.is_some()), "{}", option.long);
        }
        assert!(options.len() > 60);
    }

    #[test]
    fn asides_are_left_out() {
        assert_eq!(brief("room to join; may be repeated (default: lobby)"), "room to join");
        assert_eq!(brief("End the node."), "End the node");
        assert_eq!(brief("log more to standard error: -v info"), "log more to standard error");
    }
}
