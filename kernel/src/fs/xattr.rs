// SPDX-License-Identifier: MPL-2.0

//! Extended attributes, kept in memory with an inode.

use super::inode::XattrMode;
use crate::prelude::*;

/// The most bytes that all names and values of one inode take.
const MAX_BYTES: usize = 128 * 1024;

/// The extended attributes of one inode. An inode without any keeps nothing but the lock.
pub struct Xattrs(Mutex<Map>);

/// Values by name.
type Map = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl Default for Xattrs {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}

impl Xattrs {
    /// The value of `name`.
    ///
    /// # Errors
    ///
    /// ENODATA if it is not set; ENOMEM.
    pub fn get(&self, name: &[u8]) -> Result<Vec<u8>> {
        try_to_vec(self.0.lock().get(name).ok_or(ENODATA)?)
    }

    /// Sets the value of `name`.
    ///
    /// # Errors
    ///
    /// EEXIST, ENODATA against `mode`; ENOSPC if the inode has too many; ENOMEM.
    pub fn set(&self, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        super::current::require_memory()?;
        let mut map = self.0.lock();
        match (map.contains_key(name), mode) {
            (true, XattrMode::Create | XattrMode::Never) => return Err(EEXIST),
            (false, XattrMode::Replace | XattrMode::Never) => return Err(ENODATA),
            _ => {}
        }
        let others: usize = map
            .iter()
            .filter(|(other, _)| ***other != *name)
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if others + name.len() + value.len() > MAX_BYTES {
            return Err(ENOSPC);
        }
        map.insert(name.into(), try_to_vec(value)?.into());
        Ok(())
    }

    /// All names, each followed by a NUL.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn list(&self) -> Result<Vec<u8>> {
        let map = self.0.lock();
        let mut names = try_with_capacity(map.keys().map(|name| name.len() + 1).sum())?;
        for name in map.keys() {
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(names)
    }

    /// Removes `name`.
    ///
    /// # Errors
    ///
    /// ENODATA if it is not set.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        self.0.lock().remove(name).map(drop).ok_or(ENODATA)
    }
}
