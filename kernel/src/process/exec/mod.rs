// SPDX-License-Identifier: MPL-2.0

//! Running another program: `execve(2)`.
//!
//! ```text
//! find the file ─► script? its interpreter ─► ELF ─► a new address space, complete with stack
//!                                                        │ all that can fail has been done
//!                                                        ▼
//!                             end the other threads ─► point of no return ─► become the new program
//! ```
//!
//! The new program is put together in an address space of its own, beside the old one. So a call that fails has changed
//! nothing, however late it fails.

mod args;
mod become_program;
mod elf;
mod image;
mod program_file;
mod stack;

use linux_raw_sys::general::SIGSEGV;
use ostd::arch::cpu::context::UserContext;

pub use self::{
    args::{Budget, Strings},
    program_file::ProgramFile,
};
use crate::{
    fs::{lookup::Lookup, open::lookup_from},
    mm::{AddressSpace, commit, layout::Randomize},
    prelude::*,
    process::{credentials::Credentials, ptrace},
    signal::{self, SigInfo},
};

/// `personality(2)`: addresses are not random.
const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;

/// Which program to run, with what.
pub struct ExecRequest {
    /// Where the search for the program begins.
    pub lookup: Lookup,
    /// The program's path; empty for the file that the lookup begins at.
    pub path: Vec<u8>,
    /// Whether the path is that of a descriptor which the new program will not have (`FD_CLOEXEC`): no script can be run
    /// by it then.
    pub path_vanishes: bool,
    /// Whether a symbolic link at the end of the path is refused (`AT_SYMLINK_NOFOLLOW`).
    pub no_follow: bool,
    /// What a script's interpreter is told as the script's name, if not the path (`/dev/fd/3/script`).
    pub display_path: Vec<u8>,
    /// The arguments.
    pub argv: Strings,
    /// The environment.
    pub envp: Strings,
}

/// Whether a program may give who runs it more rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gain {
    Allowed,
    /// A tracer with fewer rights would have them, too.
    Forbidden,
}

impl Gain {
    fn for_thread(thread: &Thread) -> Self {
        if thread.tracing.forbids_gain() { Self::Forbidden } else { Self::Allowed }
    }
}

/// A program that is ready to run.
struct NewProgram {
    vm: Arc<AddressSpace>,
    exe: Arc<ProgramFile>,
    name: Vec<u8>,
    credentials: Credentials,
    entry: Vaddr,
    stack: Vaddr,
}

/// Replaces the calling thread's program. On success the registers are the new program's.
///
/// # Errors
///
/// Those of `execve(2)`; the old program goes on then. More memory than may be promised is none of them: the new program is
/// ended then, before it begins.
pub fn exec(ctx: &Ctx, registers: &mut UserContext, request: ExecRequest) -> Result<()> {
    let credentials = ctx.credentials();
    let personality = ctx.process.personality.load(Ordering::Relaxed);
    // The first page of the new stack, which Linux maps before anything else.
    commit::require(ctx.vm, PAGE_SIZE)?;
    let gain = Gain::for_thread(ctx.thread);
    let program = prepare(request, &credentials, gain, &ctx.process.rlimits, personality)?;
    let old_tid = ctx.thread.tid();
    become_program::end_other_threads(ctx)?;
    let may_be = commit::allows_exec(ctx.vm, &program.vm);
    *registers = become_program::commit(ctx, program);
    if may_be {
        ptrace::report::executed(ctx, registers, old_tid);
    } else {
        // Linux maps the new program when the old one is gone already, and finds out too late for an error.
        signal::force(ctx.thread, SigInfo::kernel(SIGSEGV as u8));
    }
    Ok(())
}

/// What the first process starts with: an address space, its program's file, and its registers.
pub struct FirstProgram {
    /// The address space.
    pub vm: Arc<AddressSpace>,
    /// The program's file.
    pub exe: Arc<ProgramFile>,
    /// Its name.
    pub name: Vec<u8>,
    /// Where it starts.
    pub registers: UserContext,
}

/// Prepares the program of the first process.
///
/// # Errors
///
/// Those of `execve(2)`.
pub fn prepare_first(
    path: &str,
    argv: Strings,
    envp: Strings,
    limits: &crate::process::rlimit::Rlimits,
) -> Result<FirstProgram> {
    let request = ExecRequest {
        lookup: lookup_from(crate::fs::mount::root()),
        path: path.as_bytes().to_vec(),
        path_vanishes: false,
        no_follow: false,
        display_path: path.as_bytes().to_vec(),
        argv,
        envp,
    };
    let program = prepare(request, &Credentials::root(), Gain::Allowed, limits, 0)?;
    let registers = become_program::registers_for(&program);
    Ok(FirstProgram { vm: program.vm, exe: program.exe, name: program.name, registers })
}

fn prepare(
    request: ExecRequest,
    credentials: &Credentials,
    gain: Gain,
    limits: &crate::process::rlimit::Rlimits,
    personality: u32,
) -> Result<NewProgram> {
    let randomize = if personality & ADDR_NO_RANDOMIZE != 0 { Randomize::No } else { Randomize::Yes };
    let name = base_name(&request.display_path).to_vec();
    let image = image::find(request)?;
    let exe = Arc::new(ProgramFile::new(&image.file)?);
    let new_credentials = become_program::credentials_for(credentials, &image.file, gain);
    let vm = AddressSpace::new(limits)?;
    vm.vmar().set_window(randomize.window(limits.soft(linux_raw_sys::general::RLIMIT_STACK)));
    let loaded = elf::load_program(&vm, &image, randomize)?;
    let stack = stack::build(&vm, &image, &loaded, &new_credentials, randomize, limits)?;
    Ok(NewProgram { vm, exe, name, credentials: new_credentials, entry: loaded.start, stack })
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}
