//! The completion for zsh: one function a command, each an `_arguments`.

use crate::table::{Command, Value, brief};

pub(crate) fn page(warren: &Command) -> String {
    let functions: Vec<String> = warren.all().into_iter().map(function).collect();
    format!(
        "#compdef warren\n# zsh completion for warren. Made by cross/manual from warren's own table of options.\n\n\
         {}\n_warren \"$@\"\n",
        functions.join("\n")
    )
}

fn function(command: &Command) -> String {
    let mut specs: Vec<String> = Vec::new();
    for option in &command.options {
        let value = option.value.as_ref().map(|(name, value)| match value {
            Value::Own => format!(":{}:", plain(name)),
            Value::File => format!(":{}:_files", plain(name)),
            Value::Directory => format!(":{}:_files -/", plain(name)),
            Value::OneOf(words) => format!(":{}:({})", plain(name), words.join(" ")),
        });
        let value = value.unwrap_or_default();
        let about = plain(option.brief());
        let names =
            std::iter::once(format!("--{}", option.long)).chain(option.short.map(|c| format!("-{c}")));
        for name in names {
            let prefix = match (option.repeats, option.short) {
                (true, _) => "*".into(),
                (false, None) => String::new(),
                (false, Some(short)) => format!("(-{short} --{})", option.long),
            };
            // `=-` would be `--option=value` alone; `=` allows both.
            let sign = if option.value.is_some() { "=" } else { "" };
            specs.push(format!("'{prefix}{name}{sign}[{about}]{value}'"));
        }
    }
    if !command.commands.is_empty() {
        specs.push("'1:command:->command'".into());
        specs.push("'*::word:->word'".into());
    }
    for operand in &command.operands {
        let star = if operand.repeats { "*" } else { "" };
        specs.push(format!("'{star}:{}:'", plain(&operand.name)));
    }
    let name = function_name(command);
    let specs = specs.join(" \\\n        ");
    format!(
        "{name}() {{\n{}    _arguments -C \\\n        {specs}\n{}}}\n",
        declarations(command),
        states(command)
    )
}

fn declarations(command: &Command) -> &'static str {
    if command.commands.is_empty() { "" } else { "    local curcontext=$curcontext state line\n" }
}

/// The words that come next, and which function knows those after them.
fn states(command: &Command) -> String {
    if command.commands.is_empty() {
        return String::new();
    }
    let mut text = String::from("    case $state in\n        command)\n            local -a commands=(\n");
    for below in &command.commands {
        text += &format!("                '{}:{}'\n", below.name, plain(brief(&below.about)));
    }
    text += "            )\n            _describe command commands\n            ;;\n        word)\n            case $line[1] in\n";
    for below in &command.commands {
        text += &format!("                {}) {} ;;\n", below.name, function_name(below));
    }
    text + "            esac\n            ;;\n    esac\n"
}

fn function_name(command: &Command) -> String {
    match command.path.as_str() {
        "" => "_warren".into(),
        path => format!("_warren_{}", path.replace(' ', "_")),
    }
}

/// Text inside the quotes of a specification, where brackets and colons mean something.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '\'' => plain += "'\\''",
            '[' | ']' | ':' | '\\' => plain.extend(['\\', c]),
            _ => plain.push(c),
        }
    }
    plain
}
