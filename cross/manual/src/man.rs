//! The man page: `warren.1.in` says in words what no table knows, and the options come in where it says `@options@`.

use crate::table::{Choice, Command};

const TEMPLATE: &str = include_str!("../warren.1.in");

pub(crate) fn page(warren: &Command) -> String {
    let mut page = String::new();
    for line in TEMPLATE.lines() {
        match line {
            "@synopsis@" => page.extend(warren.commands.iter().map(synopsis)),
            "@options@" => page.extend(warren.commands.iter().map(options)),
            "@orders@" => page.extend(warren.commands.iter().flat_map(|c| &c.commands).map(order)),
            line => page.extend([line, "\n"]),
        }
    }
    page
}

fn synopsis(command: &Command) -> String {
    let more = if command.commands.is_empty() { "" } else { " \\fIORDER\\fR ..." };
    format!(".br\n.B warren {}\n[\\fIOPTION\\fR]...{more}\n", command.name)
}

/// A section with all options of `warren run` or another.
fn options(command: &Command) -> String {
    let mut text = format!(".SS \"warren {}\"\n{}\n", command.name, line(&command.about));
    text.extend(command.options.iter().map(option));
    text
}

/// What `warren ctl` can be told, as one paragraph.
fn order(command: &Command) -> String {
    let mut head = format!(".TP\n.B {}", command.name);
    for option in command.options.iter().filter(|option| option.long != "help") {
        head += &format!(" \\fR[{}\\fR]", names(option));
        head += if option.repeats { "..." } else { "" };
    }
    for operand in &command.operands {
        let name = escaped(&operand.name.to_uppercase());
        head +=
            &if operand.repeats { format!(" \\fR[\\fI{name}\\fR]...") } else { format!(" \\fI{name}\\fR") };
    }
    let mut text = format!("{head}\n{}\n", line(&command.about));
    for operand in &command.operands {
        text += &format!("\\fI{}\\fR: {}.\n", escaped(&operand.name.to_uppercase()), escaped(&operand.about));
    }
    for option in command.options.iter().filter(|option| option.long != "help") {
        text += &format!("{}\\fR: {}.\n", names(option), escaped(&option.about));
    }
    text
}

fn option(option: &Choice) -> String {
    format!(".TP\n{}\n{}\n", names(option), line(&option.about))
}

/// `-v, --verbose`, or `--room NAME`, in bold and italics.
fn names(option: &Choice) -> String {
    let short = option.short.map(|c| format!("\\fB\\-{c}\\fR, ")).unwrap_or_default();
    let value = option.value.as_ref().map(|(name, _)| format!(" \\fI{}\\fR", escaped(&name.to_uppercase())));
    format!("{short}\\fB\\-\\-{}\\fR{}", escaped(&option.long), value.unwrap_or_default())
}

/// Text as a line of its own: what begins with a full stop or a quote would be a request.
fn line(text: &str) -> String {
    let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
    format!("{guard}{}", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga").replace('\'', "\\(aq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_escapes_stay_text() {
        assert_eq!(line(".TH is one"), "\\&.TH is one");
        assert_eq!(line("'tis"), "\\&\\(aqtis");
        assert_eq!(line("a\\b --c"), "a\\eb \\-\\-c");
    }

    #[test]
    fn every_option_is_there() {
        let warren = Command::warren();
        let page = page(&warren);
        for command in warren.all() {
            // warren's own are in the words of the template.
            for option in command.options.iter().filter(|option| option.long != "help") {
                assert!(
                    page.contains(&escaped(&format!("--{}", option.long))),
                    "{}: {}",
                    command.path,
                    option.long
                );
            }
        }
        assert!(!page.contains('@') && page.contains("warren ctl"), "{page}");
    }
}
