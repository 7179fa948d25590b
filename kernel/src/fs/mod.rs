// SPDX-License-Identifier: MPL-2.0

//! Files.

/// The open files of a thread.
#[derive(Clone, Default)]
pub struct FileTable;

/// The root, the working directory and the umask of a thread.
#[derive(Clone, Default)]
pub struct FsContext;

/// A place in the tree of files.
#[derive(Clone)]
pub struct Path;
