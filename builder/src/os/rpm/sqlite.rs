//! The rows of one table of an SQLite database, by <https://www.sqlite.org/fileformat2.html>.

use super::{Pages, Problem, array};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes before the first page's own header.
const FILE_HEADER: usize = 100;
const LEAF: u8 = 0x0d;
const INTERIOR: u8 = 0x05;
/// Deepest tree: with two children a page it would hold more than any file.
const MAX_DEPTH: usize = 32;

struct Database<'a> {
    bytes: &'a [u8],
    page_size: usize,
    /// Bytes of a page that hold data.
    usable: usize,
    walked: Pages,
}

/// Hands `take` the second column, a blob, of every row of `table`, in their order.
pub(super) fn each(
    bytes: &[u8],
    table: &str,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut database = Database::open(bytes)?;
    let mut root = None;
    // Page 1 holds the schema: type, name, table, root page, statement.
    database.rows(1, 0, &mut |record| {
        let is_table = record.text(0)? == b"table" && record.text(1)? == table.as_bytes();
        if is_table && root.is_none() {
            root = Some(record.integer(3)?);
        }
        Ok(())
    })?;
    let root = root.ok_or("it has no table of packages")?;
    let root = usize::try_from(root).map_err(|_| "its table has no page")?;
    database.rows(root, 0, &mut |record| take(record.blob(1)?))
}

impl<'a> Database<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Problem> {
        if !bytes.starts_with(MAGIC) {
            return Err("it is no SQLite database");
        }
        let size = array(bytes, 16)
            .map(u16::from_be_bytes)
            .ok_or("it is cut off")?;
        let page_size = if size == 1 { 65_536 } else { usize::from(size) };
        if page_size < 512 || !page_size.is_power_of_two() {
            return Err("its page size is none");
        }
        let reserved = usize::from(*bytes.get(20).ok_or("it is cut off")?);
        let usable = page_size.checked_sub(reserved).filter(|size| *size >= 480);
        let usable = usable.ok_or("its pages have no room")?;
        Ok(Self {
            bytes,
            page_size,
            usable,
            walked: Pages::new(bytes.len() / page_size + 1),
        })
    }

    /// The bytes of a page, numbered from 1.
    fn page(&mut self, number: usize) -> Result<&'a [u8], Problem> {
        if number == 0 {
            return Err("it names page 0");
        }
        self.walked.take(number)?;
        let start = (number - 1) * self.page_size;
        let page = self.bytes.get(start..start + self.page_size);
        page.ok_or("it names a page behind its end")
    }

    fn rows(
        &mut self,
        number: usize,
        depth: usize,
        take: &mut dyn FnMut(&Record<'_>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        if depth > MAX_DEPTH {
            return Err("its tree is too deep");
        }
        let page = self.page(number)?;
        let header = if number == 1 { FILE_HEADER } else { 0 };
        let short = "a page is cut off";
        let kind = *page.get(header).ok_or(short)?;
        let cells = array(page, header + 3)
            .map(u16::from_be_bytes)
            .ok_or(short)?;
        let pointers = header + if kind == INTERIOR { 12 } else { 8 };
        for index in 0..usize::from(cells) {
            let at = array(page, pointers + 2 * index).map(u16::from_be_bytes);
            let at = usize::from(at.ok_or(short)?);
            match kind {
                INTERIOR => {
                    let child = array(page, at).map(u32::from_be_bytes).ok_or(short)?;
                    self.rows(child as usize, depth + 1, take)?;
                }
                LEAF => {
                    let payload = self.payload(page, at)?;
                    take(&Record::read(&payload)?)?;
                }
                _ => return Err("a page is none of a table"),
            }
        }
        match kind {
            INTERIOR => {
                let last = array(page, header + 8)
                    .map(u32::from_be_bytes)
                    .ok_or(short)?;
                self.rows(last as usize, depth + 1, take)
            }
            LEAF => Ok(()),
            _ => Err("a page is none of a table"),
        }
    }

    /// The bytes of a row, with those of its overflow pages.
    fn payload(&mut self, page: &'a [u8], at: usize) -> Result<Vec<u8>, Problem> {
        let short = "a row is cut off";
        let (size, length) = varint(page, at).ok_or(short)?;
        let (_, key_length) = varint(page, at + length).ok_or(short)?;
        let size = usize::try_from(size).map_err(|_| short)?;
        if size > self.bytes.len() {
            return Err("a row is larger than the file");
        }
        let start = at + length + key_length;
        let local = self.local(size);
        let first = page.get(start..start + local).ok_or(short)?;
        let mut payload = first.to_vec();
        let mut next = if local < size {
            array(page, start + local)
                .map(u32::from_be_bytes)
                .ok_or(short)?
        } else {
            0
        };
        while payload.len() < size {
            let overflow = self.page(next as usize)?;
            next = array(overflow, 0).map(u32::from_be_bytes).ok_or(short)?;
            let wanted = (size - payload.len()).min(self.usable - 4);
            payload.extend_from_slice(overflow.get(4..4 + wanted).ok_or(short)?);
        }
        Ok(payload)
    }

    /// How much of a payload lies in the page itself (section 1.6 of the format).
    fn local(&self, size: usize) -> usize {
        let most = self.usable - 35;
        if size <= most {
            return size;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fitting = least + (size - least) % (self.usable - 4);
        if fitting <= most { fitting } else { least }
    }
}

/// A row: the types of its columns and their bytes.
struct Record<'a> {
    /// Type and place of each column.
    columns: Vec<(u64, &'a [u8])>,
}

impl<'a> Record<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, Problem> {
        let short = "a row is cut off";
        let (header, mut at) = varint(payload, 0).ok_or(short)?;
        let header = usize::try_from(header).map_err(|_| short)?;
        let mut body = payload.get(header..).ok_or(short)?;
        let mut columns = Vec::new();
        while at < header {
            let (kind, length) = varint(payload, at).ok_or(short)?;
            at += length;
            let size = match kind {
                0 | 8 | 9 => 0,
                1..=4 => kind,
                5 => 6,
                6 | 7 => 8,
                10 | 11 => return Err("a column is of no type"),
                kind => (kind - 12) / 2,
            };
            let size = usize::try_from(size).map_err(|_| short)?;
            let value = body.get(..size).ok_or(short)?;
            body = &body[size..];
            columns.push((kind, value));
        }
        Ok(Self { columns })
    }

    fn column(&self, index: usize) -> Result<(u64, &'a [u8]), Problem> {
        let column = self.columns.get(index).copied();
        column.ok_or("a row has too few columns")
    }

    fn text(&self, index: usize) -> Result<&'a [u8], Problem> {
        match self.column(index)? {
            (kind, value) if kind >= 13 && kind % 2 == 1 => Ok(value),
            _ => Err("a column is no text"),
        }
    }

    fn blob(&self, index: usize) -> Result<&'a [u8], Problem> {
        match self.column(index)? {
            (kind, value) if kind >= 12 && kind % 2 == 0 => Ok(value),
            _ => Err("a column is no blob"),
        }
    }

    fn integer(&self, index: usize) -> Result<u64, Problem> {
        match self.column(index)? {
            (8, _) => Ok(0),
            (9, _) => Ok(1),
            (1..=6, value) => Ok(value
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))),
            _ => Err("a column is no number"),
        }
    }
}

/// A number of variable length, and how many bytes it takes.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for index in 0..9 {
        let byte = *bytes.get(at.checked_add(index)?)?;
        if index == 8 {
            return Some((value << 8 | u64::from(byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}
