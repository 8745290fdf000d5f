//! JSON pointers (RFC 6901) to the places at which JSON does not fit a type.

use serde_path_to_error::{Path, Segment};

/// Writes the path of a decoding error as a pointer; empty for the whole value.
pub fn json_pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push_pointer(&mut pointer, &index.to_string()),
            Segment::Map { key } => push_pointer(&mut pointer, key),
            // The name of a variant is no place in the JSON.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Appends a name to a pointer.
pub fn push_pointer(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
}
