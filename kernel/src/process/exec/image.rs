// SPDX-License-Identifier: MPL-2.0

//! From a path to an ELF file: through the interpreters that scripts name.

use super::{ExecRequest, Strings, elf::ElfFile};
use crate::{
    fs::{
        File, OpenFlags, Path,
        inode_file::WriteGuard,
        io::Sink,
        lookup::{LastLink, Lookup},
        mount::MountFlags,
        open::{kernel_lookup, open_found},
        permission::Access,
        types::FileType,
    },
    prelude::*,
};

/// How much of a script's first line counts.
const HEAD_LEN: usize = 256;
/// How many scripts may be interpreters of each other.
const MAX_SCRIPTS: usize = 5;

/// An ELF file with what it is to be run with.
pub struct Image {
    /// The file.
    pub file: Arc<File>,
    /// What its headers say.
    pub elf: ElfFile,
    /// The file of the interpreter that it names, if it does.
    pub interpreter: Option<(Arc<File>, ElfFile)>,
    /// The path that was asked for (`AT_EXECFN`).
    pub path: Vec<u8>,
    /// The arguments, as scripts have changed them.
    pub argv: Strings,
    /// The environment.
    pub envp: Strings,
}

/// Finds the ELF file to run.
///
/// # Errors
///
/// Those of `execve(2)`.
pub fn find(request: ExecRequest) -> Result<Image> {
    let ExecRequest { lookup, path, path_vanishes, no_follow, display_path, mut argv, envp } = request;
    if argv.is_empty() {
        // Since Linux 5.18 a program always has an argument, if need be an empty one.
        argv = Strings::from_slices([&b""[..]]);
    }
    let mut file = open(&lookup, &path, no_follow)?;
    let mut script_path = display_path.clone();
    let mut scripts = 0;
    loop {
        let mut head = [0; HEAD_LEN];
        let len = read_at(&file, 0, &mut head)?;
        let Some(line) = head[..len].strip_prefix(b"#!") else { break };
        if path_vanishes {
            return Err(ENOENT);
        }
        scripts += 1;
        if scripts > MAX_SCRIPTS {
            return Err(ELOOP);
        }
        let (interpreter, argument) = parse_line(line, len == HEAD_LEN)?;
        let front: Vec<&[u8]> =
            [Some(interpreter), argument, Some(&script_path)].into_iter().flatten().collect();
        argv = argv.with_front(&front, 1)?;
        file = open(&lookup, interpreter, false)?;
        script_path = interpreter.to_vec();
    }
    let elf = ElfFile::read(&file)?;
    let interpreter = match elf.interpreter_path(&file)? {
        None => None,
        Some(path) => {
            let file = open(&lookup, &path, false)?;
            let elf = ElfFile::read(&file).map_err(|error| if error == ENOEXEC { ELIBBAD } else { error })?;
            Some((file, elf))
        }
    };
    Ok(Image { file, elf, interpreter, path: display_path, argv, envp })
}

/// Opens a file to be run.
fn open(lookup: &Lookup, path: &[u8], no_follow: bool) -> Result<Arc<File>> {
    let place: Path = match path {
        b"" => lookup.base.clone(),
        _ => lookup.find(path, if no_follow { LastLink::Stay } else { LastLink::Follow })?,
    };
    let metadata = place.inode().metadata();
    match metadata.kind {
        FileType::Regular => {}
        FileType::Symlink => return Err(ELOOP),
        _ => return Err(EACCES),
    }
    if place.mount().flags().contains(MountFlags::NOEXEC) {
        return Err(EACCES);
    }
    lookup.cred.check_access(&metadata, Access::EXEC)?;
    // Nor can a script or an interpreter be run that somebody is writing.
    drop(WriteGuard::executor(place.inode())?);
    // To run a file takes no permission to read it.
    open_found(&kernel_lookup(), place, OpenFlags::empty())
}

/// Reads at `pos` until the buffer is full or the file ends.
pub(super) fn read_at(file: &File, pos: u64, bytes: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.pread(pos + done as u64, &mut Sink::from_bytes(&mut bytes[done..]))? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// The interpreter and its one argument from a script's first line, without the `#!`. `is_cut` if there may be more of the
/// line than this.
fn parse_line(line: &[u8], is_cut: bool) -> Result<(&[u8], Option<&[u8]>)> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = line.iter().position(|byte| matches!(byte, b'\n' | 0));
    let text = line[..end.unwrap_or(line.len())].trim_ascii();
    let split = text.iter().position(is_blank);
    // A name that may go on beyond what was read is no name.
    if text.is_empty() || (split.is_none() && end.is_none() && is_cut) {
        return Err(ENOEXEC);
    }
    Ok(match split {
        None => (text, None),
        Some(split) => (&text[..split], Some(text[split..].trim_ascii())),
    })
}

#[cfg(ktest)]
mod tests {
    use ostd::prelude::ktest;

    use super::*;

    #[ktest]
    fn first_lines_are_taken_apart() {
        assert_eq!(parse_line(b" /bin/sh\necho", false), Ok((&b"/bin/sh"[..], None)));
        assert_eq!(parse_line(b"/bin/awk -f  x \t\n", false), Ok((&b"/bin/awk"[..], Some(&b"-f  x"[..]))));
        assert_eq!(parse_line(b"  \n", false), Err(ENOEXEC));
        assert_eq!(parse_line(b"/very/long", true), Err(ENOEXEC));
        assert_eq!(parse_line(b"/short", false), Ok((&b"/short"[..], None)));
    }
}
