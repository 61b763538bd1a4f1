//! Configuration files of other brokers: found out as such, and read with what they include.

use std::fs;
use std::path::{Component, Path, PathBuf};

use breakwater_config::import::{self, Files, Format, Imported};

use crate::sources;

/// Files in a folder that are looked at.
const FOLDER_MAX: usize = 1000;

/// Reads a file as what it says it is, or as what it looks like; nothing if it is one of ours.
pub(crate) fn read(path: &Path, text: &str, format: Option<Format>) -> Result<Option<Imported>, String> {
    let name = path.display().to_string();
    let format = match format {
        Some(format) => format,
        // Whatever is wrong with it: told as of one of ours, with line and column.
        None if path.extension().is_some_and(|ending| ending == "toml") => return Ok(None),
        None => match import::detect(text, &name) {
            Ok(format) => format,
            // A file of ours may be empty, or full of mistakes that are told better when it is read as one.
            Err(_) if import::is_toml(text) => Format::Breakwater,
            Err(fault) => return Err(fault),
        },
    };
    if format == Format::Breakwater {
        return Ok(None);
    }
    let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let imported = import::import(format, text, &mut Beside { folder, listed: Vec::new() });
    imported.map(Some).map_err(|faults| format!("{name}: {}", faults.join("; ")))
}

/// Files beside the one that is read, and in folders that it names whole.
struct Beside {
    folder: PathBuf,
    /// What a named folder holds.
    listed: Vec<String>,
}

impl Files for Beside {
    fn read(&mut self, name: &str) -> Result<String, String> {
        let path = Path::new(name);
        // Whoever writes the file does not choose what else of the machine is read.
        let beside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !beside && !self.listed.iter().any(|listed| listed == name) {
            return Err("only files beside this one are read".into());
        }
        let path = self.folder.join(path);
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => sources::read(&path),
            Ok(_) => Err("this is no file".into()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn list(&mut self, folder: &str) -> Result<Vec<String>, String> {
        let entries = fs::read_dir(self.folder.join(folder)).map_err(|fault| fault.to_string())?;
        let names = entries.take(FOLDER_MAX).filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(Path::new(folder).join(name).to_str()?.to_owned())
        });
        let names: Vec<String> = names.collect();
        self.listed.extend(names.iter().cloned());
        Ok(names)
    }
}
