//! Adds packages to rpm's database in SQLite (rpm's `lib/backend/sqlite.c`): a row with
//! the header in `Packages`, and for each of some tags a table of their values.
//!
//! SQLite itself does it, in memory. The image is not trusted, so a database with
//! anything but rpm's tables, or one that SQLite does not find whole, is refused first.

use rusqlite::types::Value;
use rusqlite::{Connection, MAIN_DB, params};

use super::index::{self, Entry, INDEXES, Key};
use crate::packages::Damage;
use crate::packages::rpm::header::Header;

/// Where the file says how it is written: 1 with a journal that is rolled back, 2 with one
/// that is written ahead. In memory there is only the former.
const WRITE_VERSION: std::ops::Range<usize> = 18..20;

/// The database `bytes` with these headers of installed packages.
///
/// # Errors
/// Why it cannot be added to, in words.
pub fn add(mut bytes: Vec<u8>, headers: &[Vec<u8>]) -> Result<Vec<u8>, Damage> {
    let versions = bytes.get(WRITE_VERSION).map(<[u8]>::to_vec);
    let versions = versions.ok_or("it is cut off")?;
    bytes[WRITE_VERSION].fill(1);
    let mut added = with_sqlite(&bytes, headers).map_err(|cause| match cause {
        Cause::Sqlite(error) => Damage::from(format!("SQLite says: {error}")),
        Cause::Damage(damage) => damage,
    })?;
    added[WRITE_VERSION].copy_from_slice(&versions);
    Ok(added)
}

enum Cause {
    Sqlite(rusqlite::Error),
    Damage(Damage),
}

impl From<rusqlite::Error> for Cause {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Damage> for Cause {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<&str> for Cause {
    fn from(problem: &str) -> Self {
        Self::Damage(problem.into())
    }
}

fn with_sqlite(bytes: &[u8], headers: &[Vec<u8>]) -> Result<Vec<u8>, Cause> {
    let mut database = Connection::open_in_memory()?;
    database.deserialize_read_exact(MAIN_DB, bytes, bytes.len(), false)?;
    database.execute_batch(
        "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON;",
    )?;
    check(&database)?;
    let transaction = database.transaction()?;
    for header in headers {
        insert(&transaction, header)?;
    }
    transaction.commit()?;
    Ok(database.serialize(MAIN_DB)?.to_vec())
}

/// Whether these are rpm's tables, and whole.
fn check(database: &Connection) -> Result<(), Cause> {
    let mut statement = database.prepare("SELECT type, name FROM sqlite_schema")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    for row in rows {
        let (kind, name) = row?;
        let is_index = kind == "index"
            && (name.ends_with("_key_idx")
                || name.ends_with("_hnum_idx")
                || name.starts_with("sqlite_autoindex"));
        let is_table = kind == "table"
            && (name == "Packages"
                || name == "sqlite_sequence"
                || name.starts_with("sqlite_stat")
                || INDEXES.iter().any(|(table, _)| *table == name));
        if !is_index && !is_table {
            let text = format!(
                "it has a {} '{}', which rpm does not make",
                kind.escape_debug(),
                name.escape_debug()
            );
            return Err(Cause::Damage(text.into()));
        }
    }
    let verdict: String = database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(Cause::Damage(
            format!("SQLite says: {}", verdict.escape_debug()).into(),
        ))
    }
}

fn insert(database: &Connection, blob: &[u8]) -> Result<(), Cause> {
    let header = Header::parse(blob.to_vec())?;
    database.execute("INSERT INTO Packages (blob) VALUES (?1)", params![blob])?;
    let number = database.last_insert_rowid();
    for (table, tag) in INDEXES {
        let entries = index::entries(&header, tag)?;
        if entries.is_empty() {
            continue;
        }
        // An older rpm does not have every table.
        let is_there: bool = database.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1",
            params![table],
            |row| row.get(0),
        )?;
        if !is_there {
            continue;
        }
        let mut statement = database.prepare(&format!(
            "INSERT INTO '{table}' (key, hnum, idx) VALUES (?1, ?2, ?3)"
        ))?;
        for Entry { key, place, .. } in entries {
            let key = match key {
                Key::Text(text) => Value::Text(
                    String::from_utf8(text).map_err(|_| "a tag of a header is no text")?,
                ),
                Key::Bytes(bytes) => Value::Blob(bytes),
            };
            statement.execute(params![key, number, place])?;
        }
    }
    Ok(())
}
