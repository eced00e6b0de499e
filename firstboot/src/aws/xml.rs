//! Answers in XML, of EC2 and STS.

use roxmltree::{Document, Node, ParsingOptions};

/// Most elements and texts of an answer. What asks for one instance gets some
/// hundreds.
const MOST_NODES: u32 = 20_000;

/// Parses an answer; a document type, through which entities could grow, is refused.
pub fn parse(bytes: &[u8]) -> Option<Document<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MOST_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).ok()
}

/// The first element of a name below another, at any depth.
pub fn find<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.descendants()
        .find(|it| it.is_element() && it.tag_name().name() == name)
}

/// The text of the first element of a name among the children of another.
pub fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let found = node
        .children()
        .find(|it| it.is_element() && it.tag_name().name() == name)?;
    found.text().map(str::trim).filter(|text| !text.is_empty())
}

/// Code and message of an error.
pub fn error(bytes: &[u8]) -> Option<(Option<String>, Option<String>)> {
    let document = parse(bytes)?;
    let error = find(document.root(), "Error")?;
    let text = |name| child(error, name).map(ToOwned::to_owned);
    Some((text("Code"), text("Message")))
}
