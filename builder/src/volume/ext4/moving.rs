//! Folders that the driver does not move itself.

use super::Ext4;
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::volume::refusal::refuse;
use crate::volume::{Kind, Problem, Volume as _};

/// Deepest folder that is moved piece by piece.
const DEPTH: usize = 256;

impl Ext4 {
    /// Moves a folder by making it anew and moving what it holds.
    pub(super) fn move_folder(
        &mut self,
        from: &ImagePath,
        to: &ImagePath,
        depth: usize,
    ) -> Result<()> {
        let doing = format!("move the folder {from} to {to}");
        if depth > DEPTH {
            return Err(refuse(Problem::NotSupported, doing, "it is too deep"));
        }
        let Some(source) = self.metadata(from)? else {
            return Err(refuse(Problem::NotFound, doing, "it does not exist"));
        };
        match self.metadata(to)?.map(|found| found.kind) {
            None => {}
            Some(Kind::Directory) => self.remove_directory(to)?,
            Some(_) => {
                return Err(refuse(
                    Problem::NotADirectory,
                    doing,
                    format!("{to} is no folder"),
                ));
            }
        }
        self.create_directory(to, &source.attributes)?;
        for entry in self.read_directory(from)? {
            let (old, new) = (from.join(&entry.name)?, to.join(&entry.name)?);
            if entry.kind == Kind::Directory {
                self.move_folder(&old, &new, depth + 1)?;
            } else {
                self.rename(&old, &new)?;
            }
        }
        self.remove_directory(from)
    }
}
