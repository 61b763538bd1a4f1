//! Level texts, each stored once and known by a number.

use crate::keyed_hash::HashKey;
use crate::slab::Slab;
use crate::split_table::{SplitTable, Tagged};
use crate::text::Text;

/// The level texts that a trie holds, counted by use. A level of a topic that has no symbol can match wildcards only.
pub(crate) struct Symbols {
    texts: Slab<Symbol>,
    table: SplitTable<Tagged>,
}

#[derive(Default)]
struct Symbol {
    text: Text<22>,
    uses: u32,
}

impl Symbols {
    pub(crate) fn new() -> Self {
        Self { texts: Slab::default(), table: SplitTable::new(256) }
    }

    #[inline]
    pub(crate) fn get(&self, key: &HashKey, text: &str) -> Option<u32> {
        let hash = key.text(text);
        self.find(hash, text)
    }

    #[inline]
    fn find(&self, hash: u64, text: &str) -> Option<u32> {
        let tag = hash as u32;
        let is =
            |entry: &Tagged| entry.tag == tag && self.texts.get(entry.id).is_some_and(|symbol| symbol.text.is(text));
        self.table.find(Tagged::filed_under(hash), is).map(|entry| entry.id)
    }

    pub(crate) fn text(&self, symbol: u32) -> &str {
        self.texts.get(symbol).map_or("", |entry| entry.text.as_str())
    }

    /// The symbol of `text`, with one more use.
    pub(crate) fn acquire(&mut self, key: &HashKey, text: &str) -> u32 {
        let hash = key.text(text);
        if let Some(symbol) = self.find(hash, text) {
            if let Some(entry) = self.texts.get_mut(symbol) {
                entry.uses += 1;
            }
            return symbol;
        }
        let symbol = self.texts.insert(Symbol { text: Text::new(text), uses: 1 });
        self.table.insert(Tagged::filed_under(hash), Tagged::new(hash, symbol), Tagged::hash);
        symbol
    }

    pub(crate) fn release(&mut self, key: &HashKey, symbol: u32) {
        let Some(entry) = self.texts.get_mut(symbol) else { return };
        entry.uses -= 1;
        if entry.uses > 0 {
            return;
        }
        let hash = key.text(entry.text.as_str());
        self.table.remove(Tagged::filed_under(hash), |entry| entry.id == symbol, Tagged::hash);
        self.texts.remove(symbol);
    }
}
