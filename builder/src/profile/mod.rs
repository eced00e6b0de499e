//! The user's wish: loading, templating, checking, and its JSON schema.

pub mod model;
