//! Merging of NodeConfigs, later over earlier, by nodeadm's rules (the Go library
//! `mergo` with override, and a deep merge of free documents).

use serde_json::{Map, Value};

use super::schema::Shape;

/// Merges a later value over an earlier one of the same shape.
pub(super) fn merge(earlier: &mut Value, later: Value, shape: Shape) {
    match (shape, earlier, later) {
        (Shape::Document | Shape::Ignored, Value::Object(earlier), Value::Object(later)) => {
            if earlier.is_empty() {
                *earlier = later;
            } else {
                merge_documents(earlier, later);
            }
        }
        (Shape::Fields(fields), Value::Object(earlier), Value::Object(later)) => {
            for (name, value) in later {
                let shape = fields.iter().find(|(field, _)| *field == name);
                merge_entry(
                    earlier,
                    name,
                    value,
                    shape.map_or(Shape::Ignored, |(_, shape)| *shape),
                );
            }
        }
        (Shape::Named(inner), Value::Object(earlier), Value::Object(later)) => {
            for (name, value) in later {
                merge_entry(earlier, name, value, *inner);
            }
        }
        (Shape::Appended, Value::Array(earlier), Value::Array(later)) => earlier.extend(later),
        (Shape::Text | Shape::Switch | Shape::List, earlier, later) => {
            let is_zero = match &later {
                Value::String(text) => text.is_empty(),
                Value::Bool(value) => !value,
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            if !is_zero {
                *earlier = later;
            }
        }
        (_, earlier, later) => *earlier = later,
    }
}

fn merge_entry(earlier: &mut Map<String, Value>, name: String, value: Value, shape: Shape) {
    match earlier.get_mut(&name) {
        Some(present) => merge(present, value, shape),
        None => {
            earlier.insert(name, value);
        }
    }
}

/// Objects merge key by key; everything else, null and empty lists too, replaces.
fn merge_documents(earlier: &mut Map<String, Value>, later: Map<String, Value>) {
    for (name, value) in later {
        match (earlier.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge_documents(inner, value),
            (Some(present), value) => *present = value,
            (None, value) => {
                earlier.insert(name, value);
            }
        }
    }
}
