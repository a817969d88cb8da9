//! As much XML as the descriptions and answers of gateways need: tags, text, and the five named characters.
//!
//! No document types, so no entities and nothing that expands; no recursion, and nothing is copied but what is found.

use crate::limits;

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// The name without its prefix.
    Open(&'a str),
    Close(&'a str),
    /// Not blank, not yet unescaped.
    Text(&'a str),
}

/// The tokens up to the end, or up to something that we do not read.
fn tokens(mut rest: &str) -> impl Iterator<Item = Token<'_>> {
    std::iter::from_fn(move || {
        loop {
            let Some(tag) = rest.strip_prefix('<') else {
                let (text, after) = rest.split_at(rest.find('<')?);
                rest = after;
                match text.trim() {
                    "" => continue,
                    text => return Some(Token::Text(text)),
                }
            };
            let skipped = match tag {
                tag if tag.starts_with("!--") => tag.split_once("-->"),
                tag if tag.starts_with('?') => tag.split_once("?>"),
                // A document type, or text of another kind than we need.
                tag if tag.starts_with('!') => return None,
                _ => None,
            };
            if let Some((_, after)) = skipped {
                rest = after;
                continue;
            }
            let (tag, after) = tag.split_at(end_of_tag(tag)?);
            rest = after.strip_prefix('>')?;
            match tag.strip_prefix('/') {
                Some(name) => return Some(Token::Close(local(name))),
                // An element without content is of no interest.
                None if tag.ends_with('/') => {}
                None => return Some(Token::Open(local(tag))),
            }
        }
    })
}

/// Where the `>` is that is in no attribute.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quote = None;
    tag.bytes().position(|byte| {
        match (byte, quote) {
            (b'"' | b'\'', None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            _ => {}
        }
        byte == b'>' && quote.is_none()
    })
}

/// The name in a tag, without prefix and attributes.
fn local(tag: &str) -> &str {
    let name = tag.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
    name.rsplit(':').next().unwrap_or_default()
}

/// What is in the first element of that name which begins with text.
pub(super) fn value(text: &str, name: &str) -> Option<String> {
    let mut is_inside = false;
    for token in tokens(text) {
        match token {
            Token::Text(text) if is_inside => return Some(unescape(text)),
            token => is_inside = token == Token::Open(name),
        }
    }
    None
}

/// What a device description lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Services {
    /// What addresses are relative to (`URLBase`, of version 1.0 only).
    pub(super) base: Option<String>,
    /// Types and addresses (`serviceType`, `controlURL`).
    pub(super) services: Vec<(String, String)>,
}

pub(super) fn services(description: &str) -> Services {
    let mut found = Services::default();
    let mut service = (String::new(), String::new());
    let mut inside = "";
    for token in tokens(description) {
        match token {
            Token::Open("service") => service = Default::default(),
            Token::Close("service") if !service.0.is_empty() => {
                found.services.push(std::mem::take(&mut service));
            }
            Token::Text(text) if text.len() <= limits::UPNP_URL_BYTES => match inside {
                "serviceType" => service.0 = unescape(text),
                "controlURL" => service.1 = unescape(text),
                "URLBase" => found.base = Some(unescape(text)),
                _ => {}
            },
            _ => {}
        }
        inside = if let Token::Open(name) = token { name } else { "" };
        if found.services.len() == limits::UPNP_SERVICES {
            break;
        }
    }
    found
}

fn unescape(text: &str) -> String {
    const NAMED: [(&str, &str); 5] =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    // `&amp;` comes last: what it makes is not read again.
    NAMED.into_iter().fold(text.to_owned(), |text, (name, char)| text.replace(name, char))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DESCRIPTION: &str = r#"<?xml version="1.0"?>
<!-- <service> -->
<root xmlns="urn:schemas-upnp-org:device-1-0" odd="a > b">
  <URLBase>http://192.168.1.1:5000/</URLBase>
  <device><serviceList>
    <service><serviceType>urn:x:Layer3Forwarding:1</serviceType><SCPDURL/><controlURL>/l3f?a=1&amp;b=2</controlURL></service>
    <v:service a='1'><v:controlURL> /ctl/IP </v:controlURL><v:serviceType>urn:x:WANIPConnection:1</v:serviceType></v:service>
  </serviceList></device>
</root>"#;

    #[test]
    fn the_services_of_a_description_are_found() {
        let found = services(DESCRIPTION);
        assert_eq!(found.base.as_deref(), Some("http://192.168.1.1:5000/"));
        let pairs = [("urn:x:Layer3Forwarding:1", "/l3f?a=1&b=2"), ("urn:x:WANIPConnection:1", "/ctl/IP")];
        assert_eq!(found.services, pairs.map(|(kind, url)| (kind.to_owned(), url.to_owned())));
    }

    #[test]
    fn a_value_is_found_by_its_name() {
        let fault = "<s:Fault><detail><u:errorCode x='1'>\n718 </u:errorCode></detail></s:Fault>";
        assert_eq!(value(fault, "errorCode").as_deref(), Some("718"));
        assert_eq!(value("<a></a><b>1</b>", "a"), None);
        assert_eq!(value("<a>&amp;lt;</a>", "a").as_deref(), Some("&lt;"));
    }

    #[test]
    fn a_document_with_entities_is_not_read() {
        let bomb = r#"<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><errorCode>&b;</errorCode>"#;
        assert_eq!(value(bomb, "errorCode"), None);
        let deep = "<a>".repeat(1_000_000);
        assert_eq!(value(&deep, "errorCode"), None, "no recursion");
    }

    #[test]
    fn a_description_lists_no_more_than_is_bounded() {
        let many = "<service><serviceType>a</serviceType></service>".repeat(2 * limits::UPNP_SERVICES);
        assert_eq!(services(&many).services.len(), limits::UPNP_SERVICES);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String, tags in "[<>/!?:\"'a&; -]{0,60}", cut: prop::sample::Index) {
            let _ = (services(&text), value(&text, "a"));
            let _ = (services(&tags), value(&tags, "a"));
            let _ = services(&DESCRIPTION[..cut.index(DESCRIPTION.len())]);
        }
    }
}
