//! Blocks, lists and values, merged as they are read.

use super::tokens::Cursor;
use super::{At, DEPTH_MAX, Draft, FORMER_MAX, Files, INCLUDE_DEPTH_MAX, INCLUDES_MAX, Map, Part, Slot};
use crate::import::Fate;

/// What the reading of all files shares.
pub(super) struct Reader<'a> {
    pub(super) files: &'a mut dyn Files,
    pub(super) draft: &'a mut Draft,
    /// Bytes that may still be included.
    pub(super) bytes_left: usize,
    pub(super) includes: u32,
}

/// One file while it is read.
struct Parser<'a, 'r, 't> {
    reader: &'r mut Reader<'a>,
    cursor: Cursor<'t>,
    file: usize,
    /// How deep it is included.
    nesting: usize,
}

impl Reader<'_> {
    /// Reads one file into a block.
    pub(super) fn file(&mut self, text: &str, file: usize, map: &mut Map, nesting: usize) -> Result<(), String> {
        for (number, line) in (1..).zip(text.lines()) {
            let (at, line) = (At::line(file, number), line.split('#').next().unwrap_or_default().trim());
            if line.starts_with("//") {
                self.draft.mark(at, Fate::Blank);
            } else if line.chars().all(|c| "{}[](), ".contains(c)) {
                self.draft.structure(at);
            }
        }
        let mut parser = Parser { reader: self, cursor: Cursor::new(text), file, nesting };
        parser.cursor.between(false);
        // Braces around the whole are allowed.
        let braced = parser.cursor.peek() == Some('{');
        if braced {
            parser.token(1);
        }
        parser.members(map, 1, braced)?;
        parser.cursor.between(true);
        match parser.cursor.peek() {
            None => Ok(()),
            Some(_) => Err(parser.fault("something stands behind the last brace")),
        }
    }
}

impl Parser<'_, '_, '_> {
    fn fault(&self, text: &str) -> String {
        format!("line {}: {text}", self.cursor.line)
    }

    fn here(&self) -> At {
        At::line(self.file, self.cursor.line)
    }

    /// Goes on over what only holds others together.
    fn token(&mut self, bytes: usize) {
        let at = self.here();
        self.reader.draft.structure(at);
        self.cursor.advance(bytes);
    }

    /// `key = value` and `key { … }`, up to the closing brace or the end.
    fn members(&mut self, map: &mut Map, depth: usize, braced: bool) -> Result<(), String> {
        loop {
            self.cursor.between(true);
            match self.cursor.peek() {
                None if braced => return Err(self.fault("the file ends inside a block: a } is missing")),
                None => return Ok(()),
                Some('}') if braced => {
                    self.token(1);
                    return Ok(());
                }
                Some(_) if self.at_include() => self.include(map)?,
                Some(_) => self.member(map, depth)?,
            }
        }
    }

    fn member(&mut self, map: &mut Map, depth: usize) -> Result<(), String> {
        let line = self.cursor.line;
        let start = self.here();
        self.reader.draft.structure(start);
        let path = self.path()?;
        let depth = depth + path.len();
        if depth > DEPTH_MAX {
            return Err(self.fault("blocks are nested too deep"));
        }
        self.cursor.between(false);
        let append = self.cursor.take("+=");
        if !append && !self.cursor.take("=") && !self.cursor.take(":") && self.cursor.peek() != Some('{') {
            return Err(self.fault(&format!("a = or {{ is missing behind {:?}", shown(&path))));
        }
        self.cursor.between(false);
        let parts = self.value(depth)?;
        if parts.is_empty() {
            return Err(self.fault(&format!("{:?} has no value", shown(&path))));
        }
        let at = At { file: self.file, line, last: self.cursor.line.max(line) };
        let slot = Slot { parts, former: None, formers: 0, at };
        self.insert(map, &path, slot, append)
    }

    /// A path: parts with dots between, in quotes or not.
    fn path(&mut self) -> Result<Vec<String>, String> {
        let mut path = Vec::new();
        loop {
            self.cursor.spaces();
            let part =
                if self.cursor.peek() == Some('"') { self.cursor.quoted()? } else { self.cursor.bare_key().to_owned() };
            if part.is_empty() && path.len() < DEPTH_MAX {
                return Err(self.fault("a key was expected"));
            }
            path.push(part);
            if path.len() > DEPTH_MAX {
                return Err(self.fault("a key has too many parts"));
            }
            self.cursor.spaces();
            if !self.cursor.take(".") {
                return Ok(path);
            }
        }
    }

    /// What stands behind a key or in a list, up to the end of the line or a comma.
    fn value(&mut self, depth: usize) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        loop {
            let gap = self.cursor.spaces();
            let Some(c) = self.cursor.peek() else { break };
            if matches!(c, '\n' | ',' | '}' | ']')
                || self.cursor.starts("#")
                || (self.cursor.starts("//") && starts_comment(gap, &parts))
            {
                break;
            }
            if !gap.is_empty() && !parts.is_empty() {
                parts.push(Part::Gap(gap.to_owned()));
            }
            let at = self.here();
            self.reader.draft.structure(at);
            parts.push(match c {
                '{' => {
                    self.token(1);
                    let mut map = Map::new();
                    if depth >= DEPTH_MAX {
                        return Err(self.fault("blocks are nested too deep"));
                    }
                    self.members(&mut map, depth, true)?;
                    Part::Map(map)
                }
                '[' => self.list(depth)?,
                '"' => Part::Text(self.cursor.quoted()?),
                '$' if self.cursor.starts("${") => self.reference()?,
                _ => Part::Text(self.word()?),
            });
        }
        while matches!(parts.last(), Some(Part::Gap(_))) {
            parts.pop();
        }
        Ok(parts)
    }

    fn word(&mut self) -> Result<String, String> {
        let word = self.cursor.bare();
        if word.is_empty() { Err(self.fault("this can't be read as a value")) } else { Ok(word.to_owned()) }
    }

    fn list(&mut self, depth: usize) -> Result<Part, String> {
        if depth >= DEPTH_MAX {
            return Err(self.fault("lists are nested too deep"));
        }
        self.token(1);
        let mut items = Vec::new();
        loop {
            self.cursor.between(true);
            let line = self.cursor.line;
            match self.cursor.peek() {
                None => return Err(self.fault("the file ends inside a list: a ] is missing")),
                Some(']') => {
                    self.token(1);
                    return Ok(Part::List(items));
                }
                Some(_) => {
                    let parts = self.value(depth + 1)?;
                    if parts.is_empty() {
                        return Err(self.fault("a value or a ] was expected in the list"));
                    }
                    let at = At { file: self.file, line, last: self.cursor.line };
                    items.push(Slot { parts, former: None, formers: 0, at });
                }
            }
        }
    }

    /// `${path}` or `${?path}`.
    fn reference(&mut self) -> Result<Part, String> {
        self.cursor.advance(2);
        let optional = self.cursor.take("?");
        let path = self.path()?;
        if self.cursor.take("}") {
            Ok(Part::Reference { path, optional })
        } else {
            Err(self.fault("a } is missing behind ${"))
        }
    }

    fn at_include(&self) -> bool {
        let rest = self.cursor.rest();
        rest.strip_prefix("include").is_some_and(|rest| {
            let rest = rest.trim_start_matches([' ', '\t']);
            ["\"", "file(", "required(", "url(", "classpath("].iter().any(|start| rest.starts_with(start))
        })
    }

    /// `include "FILE"`, also as `file("FILE")` or `required(file("FILE"))`.
    fn include(&mut self, map: &mut Map) -> Result<(), String> {
        let at = self.here();
        self.token("include".len());
        let mut closing = 0;
        let mut foreign = false;
        let name = loop {
            self.cursor.spaces();
            match ["file(", "required(", "url(", "classpath("].iter().find(|word| self.cursor.starts(word)) {
                Some(word) => {
                    foreign |= matches!(*word, "url(" | "classpath(");
                    self.cursor.advance(word.len());
                    closing += 1;
                }
                None if self.cursor.peek() == Some('"') => break self.cursor.quoted()?,
                None => return Err(self.fault("include needs a file name in quotes")),
            }
        };
        for _ in 0..closing {
            self.cursor.spaces();
            if !self.cursor.take(")") {
                return Err(self.fault("a ) is missing behind include"));
            }
        }
        match self.included(&name, foreign) {
            Ok(text) => {
                self.reader.bytes_left -= text.len();
                let file = self.reader.draft.add_file(Some(&name), &text);
                let nesting = self.nesting + 1;
                let mut inner = Map::new();
                self.reader.file(&text, file, &mut inner, nesting).map_err(|fault| format!("{name}, {fault}"))?;
                self.reader.draft.mapped(at);
                self.merge(map, inner)
            }
            Err(fault) => {
                self.reader.draft.action(
                    at,
                    &format!("include {name}"),
                    format!("not included: {fault}; import that file too, or copy what it says in here"),
                );
                Ok(())
            }
        }
    }

    fn included(&mut self, name: &str, foreign: bool) -> Result<String, String> {
        if foreign {
            return Err("only files are read".into());
        }
        self.reader.includes += 1;
        if self.reader.includes > INCLUDES_MAX || self.nesting >= INCLUDE_DEPTH_MAX {
            return Err("too many files are included".into());
        }
        let text = self.reader.files.read(name)?;
        if text.len() > self.reader.bytes_left { Err("all files together are too large".into()) } else { Ok(text) }
    }

    /// Puts a value behind a path: blocks merge, anything else replaces.
    fn insert(&mut self, map: &mut Map, path: &[String], slot: Slot, append: bool) -> Result<(), String> {
        let Some((first, rest)) = path.split_first() else { return Ok(()) };
        if !rest.is_empty() {
            let mut inner = Map::new();
            let at = slot.at;
            self.insert_new(&mut inner, rest, slot, append, path)?;
            return self.put(map, first, Slot { parts: vec![Part::Map(inner)], former: None, formers: 0, at });
        }
        let slot = if append { appending(slot, vec![first.clone()]) } else { slot };
        self.put(map, first, slot)
    }

    /// The same, for what is certainly not there yet.
    fn insert_new(
        &mut self,
        map: &mut Map,
        rest: &[String],
        slot: Slot,
        append: bool,
        whole: &[String],
    ) -> Result<(), String> {
        let Some((first, rest)) = rest.split_first() else { return Ok(()) };
        let at = slot.at;
        if rest.is_empty() {
            let slot = if append { appending(slot, whole.to_vec()) } else { slot };
            map.insert(first.clone(), slot);
            return Ok(());
        }
        let mut inner = Map::new();
        self.insert_new(&mut inner, rest, slot, append, whole)?;
        map.insert(first.clone(), Slot { parts: vec![Part::Map(inner)], former: None, formers: 0, at });
        Ok(())
    }

    fn put(&mut self, map: &mut Map, key: &str, mut slot: Slot) -> Result<(), String> {
        let Some(old) = map.get_mut(key) else {
            map.insert(key.to_owned(), slot);
            return Ok(());
        };
        let refers = |slot: &Slot| slot.parts.iter().any(|part| matches!(part, Part::Reference { .. }));
        let block = |slot: &Slot| matches!(slot.parts.as_slice(), [Part::Map(_)]);
        if block(&slot) && (block(old) || refers(old)) {
            let Some(Part::Map(new)) = slot.parts.pop() else { return Ok(()) };
            if let Some(Part::Map(inner)) = old.parts.last_mut() {
                return self.merge(inner, new);
            }
            old.parts.push(Part::Map(new));
            return Ok(());
        }
        if let Some(Part::List(_)) = old.parts.last()
            && let Some(item) = appended(&mut slot)
        {
            if let Some(Part::List(items)) = old.parts.last_mut() {
                items.push(item);
            }
            old.at.last = old.at.last.max(slot.at.last);
            return Ok(());
        }
        if !refers(&slot) {
            let old = std::mem::replace(old, slot);
            let line = map.get(key).map_or(0, |new| new.at.line);
            self.overridden(&old, key, line);
            return Ok(());
        }
        slot.formers = old.formers + 1;
        if slot.formers > FORMER_MAX {
            return Err(format!("line {}: {key:?} builds on its own former value too many times", slot.at.line));
        }
        let former = std::mem::replace(old, slot);
        old.former = Some(Box::new(former));
        Ok(())
    }

    fn merge(&mut self, map: &mut Map, new: Map) -> Result<(), String> {
        for (key, slot) in new {
            self.put(map, &key, slot)?;
        }
        Ok(())
    }

    /// Says of every line of a value that another one has taken its place.
    fn overridden(&mut self, slot: &Slot, key: &str, line: u32) {
        for part in &slot.parts {
            if let Part::Map(map) = part {
                for (inner, slot) in map {
                    self.overridden(slot, &format!("{key}.{inner}"), line);
                }
            } else {
                self.reader.draft.not_mapped(slot.at, key, format!("given again in line {line}, which counts"));
            }
        }
        if let Some(former) = &slot.former {
            self.overridden(former, key, line);
        }
    }
}

/// `//` starts a comment behind a space, and not in the middle of an address such as `http://host`.
fn starts_comment(gap: &str, parts: &[Part]) -> bool {
    parts.is_empty() || !gap.is_empty()
}

/// `a += x` is short for `a = ${?a} [x]`.
fn appending(slot: Slot, path: Vec<String>) -> Slot {
    let at = slot.at;
    let former = Part::Reference { path, optional: true };
    Slot { parts: vec![former, Part::List(vec![slot])], former: None, formers: 0, at }
}

/// The item, if the slot does nothing but append one.
fn appended(slot: &mut Slot) -> Option<Slot> {
    match slot.parts.as_mut_slice() {
        [Part::Reference { optional: true, .. }, Part::List(items)] if items.len() == 1 => items.pop(),
        _ => None,
    }
}

fn shown(path: &[String]) -> String {
    path.join(".").chars().take(80).collect()
}
