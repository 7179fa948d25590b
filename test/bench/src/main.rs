// SPDX-License-Identifier: MPL-2.0

//! What a memory operation costs, measured alike on every kernel with Linux's system calls.
//!
//! One static binary. Each operation runs in a process of its own, freshly executed, so that none finds what another
//! one has left, and one that crashes or hangs harms no other. No libc has a part in what is timed.
//!
//! ```text
//! bench                       measure everything
//! bench NAME...               measure these operations; a name that ends in `*` stands for all that begin with it
//! bench --list                print `NAME<TAB>PAGES<TAB>WHAT<TAB>UNITS`, PAGES being how many the operation clears or
//!                             copies, and UNITS how often a sample does it
//! bench --rounds N            take so many samples of each instead of its own number
//! bench --share N             take a N-th of the samples that each operation would take
//! bench --from NAME           begin with this operation
//! bench --two                 throughput with one thread and with two, instead
//! bench --one NAME            measure an operation in this very process, as each one is by a process of its own
//! bench --list-two            print what that measures, like --list
//! ```
//!
//! As process 1 it mounts /proc and /tmp first, and turns the machine off afterwards. What it says:
//!
//! ```text
//! clock OVERHEAD LOOP         ticks of an empty measurement, and of a loop of 2000 instructions
//! run NAME                    an operation begins
//! ok NAME MEDIAN MIN MAX N    ticks, of N samples, each for one unit of the operation
//! fail NAME WHY               it could not be measured
//! two NAME ONE BOTH           operations per second with one thread, and with two together
//! end                         that was all
//! ```
//!
//! How a profiler finds the measured sections is said in [`clock`]. To add an operation, add it to the table of its
//! family in `operation/`.

#![no_main]

#[macro_use]
mod sys;

mod arena;
mod clock;
mod memory;
mod operation;
mod two;

use std::ffi::{CStr, c_char, c_int};

use clock::Samples;

/// An operation gives up after so many seconds.
const LIMIT: u32 = 120;

/// What the command line asks for.
struct Options {
    names: Vec<String>,
    rounds: Option<usize>,
    share: usize,
    from: Option<String>,
    mode: Mode,
}

#[derive(PartialEq)]
enum Mode {
    Measure,
    List,
    ListTwo,
    Two,
    /// Measure one operation in this process.
    One,
}

/// Where the libc hands over; the standard library's own start, with its signal handler and stack, is left out.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    let argument = |n: usize| {
        // SAFETY: the kernel put as many strings there as it counted.
        unsafe { CStr::from_ptr(*arguments.add(n)) }.to_string_lossy().into_owned()
    };
    if count > 1 && argument(1) == "--exit" {
        sys::exit(0);
    }
    let arguments: Vec<String> = (1..count as usize).map(argument).collect();
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("bench: {why}");
            return 2;
        }
    };
    let is_init = std::process::id() == 1;
    if is_init {
        mount(c"proc", c"/proc");
        mount(c"tmpfs", c"/tmp");
    }
    let status = match options.mode {
        Mode::List => list(),
        Mode::ListTwo => two::list(),
        Mode::One => return one(&options),
        Mode::Measure => measure(&options),
        Mode::Two => two::run(&options.names, options.from.as_deref()),
    };
    if is_init {
        syscall!(libc::SYS_sync);
        syscall!(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_POWER_OFF,
            0
        );
    }
    status
}

fn parse(arguments: Vec<String>) -> Result<Options, String> {
    let mut options = Options { names: Vec::new(), rounds: None, share: 1, from: None, mode: Mode::Measure };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let number: Option<usize> = arguments.next().and_then(|number| number.parse().ok());
            number.filter(|&number| number > 0).ok_or(format!("{argument} takes a number"))
        };
        match argument.as_str() {
            "--list" => options.mode = Mode::List,
            "--list-two" => options.mode = Mode::ListTwo,
            "--two" => options.mode = Mode::Two,
            "--one" => options.mode = Mode::One,
            "--rounds" => options.rounds = Some(number()?),
            "--share" => options.share = number()?,
            "--from" => options.from = arguments.next(),
            name if name.starts_with('-') => return Err(format!("{name}: no such option")),
            _ => options.names.push(argument),
        }
    }
    Ok(options)
}

/// Mounts a file system; that it is there already, or cannot be, shows in what needs it.
fn mount(kind: &CStr, place: &CStr) {
    syscall!(libc::SYS_mkdir, place.as_ptr(), 0o755);
    syscall!(libc::SYS_mount, kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, 0);
}

fn list() -> c_int {
    for operation in operation::all() {
        let operation::Operation { name, pages, what, units, .. } = operation;
        println!("{name}\t{pages}\t{what}\t{units}");
    }
    0
}

/// Whether a name is among those asked for.
fn is_wanted(name: &str, names: &[String]) -> bool {
    let fits = |wanted: &String| match wanted.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == wanted,
    };
    names.is_empty() || names.iter().any(fits)
}

/// Measures what is asked for, each operation in a process of its own.
fn measure(options: &Options) -> c_int {
    println!("clock {} {}", Samples::new(1).overhead(), clock::loop_of_two_thousand());
    let from = options.from.as_deref();
    let rest = operation::all().skip_while(|operation| from.is_some_and(|from| operation.name != from));
    let mut status = 1;
    for operation in rest.filter(|operation| is_wanted(operation.name, &options.names)) {
        println!("run {}", operation.name);
        let rounds = options.rounds.unwrap_or((operation.rounds / options.share).max(3));
        match execute(operation.name, rounds) {
            Ok(()) => status = 0,
            Err(why) => println!("fail {} {why}", operation.name),
        }
    }
    println!("end");
    status
}

/// Executes this program for one operation.
fn execute(name: &str, rounds: usize) -> Result<(), String> {
    let (name, rounds) = (format!("{name}\0"), format!("{rounds}\0"));
    let pid = sys::fork();
    if pid == 0 {
        // Where things are in memory decides how many page tables there are.
        syscall!(libc::SYS_personality, libc::ADDR_NO_RANDOMIZE);
        let words = [c"bench", c"--one", c"--rounds"].map(|word| word.as_ptr().cast());
        let words =
            [words[0], words[1], words[2], rounds.as_ptr().cast(), name.as_ptr().cast(), std::ptr::null()];
        sys::exec(operation::SELF, &words);
        sys::exit(127);
    }
    let mut status = 0;
    sys::check("fork", pid)
        .and_then(|_| sys::check("wait4", sys::wait_for(pid, &mut status)))
        .map_err(|failure| format!("{}: error {}", failure.call, failure.errno))?;
    match (status & 0x7f, status >> 8 & 0xff) {
        (0, 0 | 1) => Ok(()),
        (0, 127) => Err("the program cannot be executed again".to_owned()),
        (0, status) => Err(format!("ended with status {status}")),
        (libc::SIGALRM, _) => Err(format!("took more than {LIMIT} s")),
        (signal, _) => Err(format!("was ended by signal {signal}")),
    }
}

/// Measures one operation in this process and says what came of it.
fn one(options: &Options) -> c_int {
    let Some(operation) =
        operation::all().find(|operation| options.names.first() == Some(&operation.name.to_owned()))
    else {
        eprintln!("bench: no such operation");
        return 2;
    };
    syscall!(libc::SYS_alarm, LIMIT);
    let mut samples = Samples::new(options.rounds.unwrap_or(operation.rounds));
    // The first line of output must find its buffer and its pages.
    print!("");
    let done = (operation.run)(&mut samples);
    let values = samples.sorted();
    let per = |value: u64| (value + operation.units / 2) / operation.units;
    match (done, values.as_slice()) {
        (Ok(()), [least, .., most]) => {
            let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2;
            println!("ok {} {} {} {} {}", operation.name, per(median), per(*least), per(*most), values.len());
            0
        }
        (Ok(()), _) => {
            println!("fail {} took too few samples", operation.name);
            1
        }
        (Err(failure), _) if failure.errno == 0 => {
            println!("fail {} {}", operation.name, failure.call);
            1
        }
        (Err(failure), _) => {
            let error = std::io::Error::from_raw_os_error(failure.errno);
            println!("fail {} {}: {error}", operation.name, failure.call);
            1
        }
    }
}
