//! redb on our disk, real or simulated.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use crate::disk::DiskFile;

#[derive(Debug)]
pub(super) struct Backing(Arc<dyn DiskFile>);

impl Backing {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Backing {
        Backing(file)
    }
}

impl StorageBackend for Backing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
}
