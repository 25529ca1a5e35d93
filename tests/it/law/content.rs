//! What a message can hold.

use serde_json::{Value, json};

pub const KINDS: usize = 6;

/// The fields of a content; the tag makes the text distinct.
pub fn content(kind: usize, tag: &str) -> Value {
    let entity = |kind: &str| json!({ "type": kind, "offset": 0, "length": 1 });
    match kind {
        0 => json!({ "text": tag }),
        1 => json!({ "text": format!("{tag} 👍"), "entities": [entity("url"), entity("mention"), entity("bold")] }),
        2 => {
            let entities = [entity("text_link"), entity("text_link"), entity("text_mention")];
            json!({ "photo": [{ "file_id": "A" }], "caption": tag, "caption_entities": entities })
        }
        3 => json!({ "sticker": { "file_id": "B" } }),
        4 => json!({ "document": { "file_id": "C" }, "animation": { "file_id": "C" }, "caption": "" }),
        _ => json!({ "voice": {}, "text": null, "caption": format!("{tag}\u{0}"), "entities": [entity("url")] }),
    }
}
