//! The completion for bash. It needs nothing but bash: the package bash-completion only loads it.

use std::collections::BTreeSet;

use crate::table::{Command, Value};

pub(crate) fn page(warren: &Command) -> String {
    let all = warren.all();
    let takes: BTreeSet<String> = all
        .iter()
        .flat_map(|c| &c.options)
        .filter(|option| option.value.is_some())
        .map(|option| format!("--{}", option.long))
        .collect();
    let commands: Vec<&str> = all[1..].iter().map(|c| c.path.as_str()).collect();

    HEAD.to_owned()
        + &line(8, &format!("{}) skip=yes; continue ;;", join(takes.iter().map(String::as_str), " | ")))
        + "        -*) continue ;;\n    esac\n"
        + &line(
            4,
            &format!("case \"${{path:+$path }}$word\" in {}) path=\"${{path:+$path }}$word\" ;; esac", {
                join(commands.iter().map(|path| format!("'{path}'")), " | ")
            }),
        )
        + "    done\n\n    case $path:$before in\n"
        + &values(&all)
        + "    esac\n    case $path in\n"
        + &words(&all)
        + TAIL
}

const HEAD: &str = "\
# bash completion for warren. Made by cross/manual from warren's own table of options.
# shellcheck shell=bash disable=SC2207

_warren() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} path='' skip='' word i
    # `--option=value` arrives as three words.
    if [ \"$current\" = = ]; then
        current=''
    elif [ \"$before\" = = ] && [ \"$COMP_CWORD\" -gt 2 ]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # The command is what is neither an option nor its value.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [ \"$word\" != = ] || continue
        if [ -n \"$skip\" ]; then
            skip=''
            continue
        fi
        case $word in
";

const TAIL: &str = "    esac
}

complete -F _warren warren
";

/// What each option's value may be; an own one has no proposals.
fn values(all: &[&Command]) -> String {
    let mut own = Vec::new();
    let mut text = String::new();
    for command in all {
        for option in &command.options {
            let Some((_, value)) = &option.value else { continue };
            let case = format!("'{}:--{}'", command.path, option.long);
            let propose = match value {
                Value::Own => {
                    own.push(case);
                    continue;
                }
                Value::File => "compopt -o filenames; COMPREPLY=($(compgen -f -- \"$current\"))".into(),
                Value::Directory => "compopt -o filenames; COMPREPLY=($(compgen -d -- \"$current\"))".into(),
                Value::OneOf(words) => {
                    format!("COMPREPLY=($(compgen -W '{}' -- \"$current\"))", words.join(" "))
                }
            };
            text += &line(8, &format!("{case}) {propose}; return ;;"));
        }
    }
    text + &line(8, &format!("{}) return ;;", own.join(" | ")))
}

/// The options and commands that may follow.
fn words(all: &[&Command]) -> String {
    all.iter()
        .map(|command| {
            let options = command.options.iter().map(|option| format!("--{}", option.long));
            let words: Vec<String> = command.commands.iter().map(|c| c.name.clone()).chain(options).collect();
            let words = words.join(" ");
            line(8, &format!("'{}') COMPREPLY=($(compgen -W '{words}' -- \"$current\")) ;;", command.path))
        })
        .collect()
}

fn line(indent: usize, text: &str) -> String {
    format!("{:indent$}{text}\n", "")
}

fn join(words: impl Iterator<Item = impl ToString>, between: &str) -> String {
    words.map(|word| word.to_string()).collect::<Vec<_>>().join(between)
}
