// SPDX-License-Identifier: MPL-2.0

//! `/proc/sys`: what can be asked and set of the kernel (`sysctl(8)`). What has no effect here cannot be written.

use spin::Once;
use vmar_ostd::reserve::reserve;

use super::{
    super::{
        file_table::NR_OPEN,
        pipe, protected,
        synthetic::{Row, Text, put},
        userfaultfd,
    },
    parse_setting,
};
use crate::{
    device::ENTROPY_BITS,
    ipc::shm,
    mm::{
        self, cache,
        commit::{self, Reserve},
        layout::MIN_ADDR,
        settings,
    },
    prelude::*,
    process::{
        credentials::CapSet,
        table::{self, PID_MAX},
    },
    random, uts,
};

/// The last capability there is.
const LAST_CAPABILITY: u32 = CapSet::ALL.bits().trailing_ones() - 1;
/// The most supplementary groups.
const MAX_GROUPS: u32 = linux_raw_sys::general::NGROUPS_MAX;

/// `/proc/sys`.
pub(super) const ROWS: &[Row] =
    &[Row::folder("fs", FS), Row::folder("kernel", KERNEL), Row::folder("vm", VM)];

/// A setting of [`protected`], which is the superuser's alone.
macro_rules! protected {
    ($name:literal, $setting:ident) => {
        Row {
            mode: 0o600,
            ..Row::setting(
                $name,
                |text| put!(text, "{}\n", protected::$setting.get()),
                |bytes| protected::$setting.set(parse_setting(bytes)?),
            )
        }
    };
}

/// A number that the superuser can set.
macro_rules! number {
    ($name:literal, $shown:expr, $set:expr) => {
        Row::setting($name, |text| put!(text, "{}\n", $shown), |bytes| $set(parse_setting(bytes)?))
    };
}

/// A setting for when memory runs out.
macro_rules! oom {
    ($name:literal, $setting:ident) => {
        number!($name, settings::$setting.get(), |value| settings::$setting.set(value))
    };
}

const FS: &[Row] = &[
    Row::text("file-max", |text| put!(text, "{}\n", i64::MAX)),
    Row::text("nr_open", |text| put!(text, "{NR_OPEN}\n")),
    Row::text("pipe-max-size", |text| put!(text, "{}\n", pipe::MAX_CAPACITY)),
    protected!("protected_fifos", FIFOS),
    protected!("protected_hardlinks", HARD_LINKS),
    protected!("protected_regular", REGULAR_FILES),
    protected!("protected_symlinks", SYMLINKS),
];

const KERNEL: &[Row] = &[
    Row::text("cap_last_cap", |text| put!(text, "{LAST_CAPABILITY}\n")),
    Row::text("core_pattern", |text| text.push(b"core\n")),
    Row::setting(
        "domainname",
        |text| name(text, uts::domain_name()),
        |bytes| set_name(bytes, uts::set_domain_name),
    ),
    Row::setting(
        "hostname",
        |text| name(text, uts::host_name()),
        |bytes| set_name(bytes, uts::set_host_name),
    ),
    Row::text("ngroups_max", |text| put!(text, "{MAX_GROUPS}\n")),
    Row::text("osrelease", |text| put!(text, "{}\n", uts::RELEASE)),
    Row::text("ostype", |text| text.push(b"Linux\n")),
    Row::text("overflowgid", |text| text.push(b"65534\n")),
    Row::text("overflowuid", |text| text.push(b"65534\n")),
    Row::text("pid_max", |text| put!(text, "{PID_MAX}\n")),
    Row::folder("random", RANDOM),
    Row::text("randomize_va_space", |text| text.push(b"2\n")),
    Row::setting(
        "shmall",
        |text| put!(text, "{}\n", shm::limits().all),
        |bytes| {
            let all = parse_unsigned(bytes)?;
            shm::set_limits(|limits| limits.all = all);
            Ok(())
        },
    ),
    Row::setting(
        "shmmax",
        |text| put!(text, "{}\n", shm::limits().max),
        |bytes| {
            let max = parse_unsigned(bytes)?;
            shm::set_limits(|limits| limits.max = max);
            Ok(())
        },
    ),
    number!("shmmni", shm::limits().count, shm::set_max_count),
    Row::text("tainted", |text| text.push(b"0\n")),
    Row::text("threads-max", |text| put!(text, "{}\n", table::max_threads())),
    Row::text("version", |text| put!(text, "{}\n", uts::VERSION)),
];

const RANDOM: &[Row] = &[
    Row::text("boot_id", |text| {
        static BOOT_ID: Once<u128> = Once::new();
        uuid(*BOOT_ID.call_once(random_number), text);
    }),
    Row::text("entropy_avail", |text| put!(text, "{ENTROPY_BITS}\n")),
    Row::text("poolsize", |text| put!(text, "{ENTROPY_BITS}\n")),
    Row::text("uuid", |text| uuid(random_number(), text)),
];

const VM: &[Row] = &[
    number!("admin_reserve_kbytes", Reserve::Admin.get(), |value| Reserve::Admin.set(value)),
    Row { mode: 0o200, ..Row::setting("drop_caches", |text| text.push(b"0\n"), drop_caches) },
    Row::text("legacy_va_layout", |text| text.push(b"0\n")),
    Row::setting("max_map_count", |text| put!(text, "{}\n", mm::max_mappings()), set_max_map_count),
    Row::text("min_free_kbytes", |text| put!(text, "{}\n", reserve() / 2 * (PAGE_SIZE / 1024))),
    Row::text("mmap_min_addr", |text| put!(text, "{MIN_ADDR}\n")),
    Row::text("nr_hugepages", |text| text.push(b"0\n")),
    Row::text("nr_overcommit_hugepages", |text| text.push(b"0\n")),
    oom!("oom_dump_tasks", OOM_DUMP_TASKS),
    oom!("oom_kill_allocating_task", OOM_KILL_ALLOCATING_TASK),
    number!("overcommit_kbytes", commit::kibibytes(), commit::set_kibibytes),
    number!("overcommit_memory", commit::mode() as u32, commit::set_mode),
    number!("overcommit_ratio", commit::ratio(), commit::set_ratio),
    Row::text("page-cluster", |text| text.push(b"3\n")),
    // The kernel does not panic for lack of memory, whoever wishes that.
    number!("panic_on_oom", 0, |value| if value == 0 { Ok(()) } else { Err(EINVAL) }),
    Row::text("swappiness", |text| text.push(b"60\n")),
    Row::setting(
        "unprivileged_userfaultfd",
        |text| put!(text, "{}\n", userfaultfd::unprivileged()),
        |bytes| userfaultfd::set_unprivileged(parse_setting(bytes)?),
    ),
    number!("user_reserve_kbytes", Reserve::User.get(), |value| Reserve::User.set(value)),
    Row::text("vfs_cache_pressure", |text| text.push(b"100\n")),
];

fn name(text: &mut Text, name: Vec<u8>) {
    text.push(&name);
    text.push(b"\n");
}

fn set_name(bytes: &[u8], set: fn(&[u8])) -> Result<()> {
    let line = bytes.split(|byte| matches!(byte, b'\n' | 0)).next().unwrap_or(b"");
    set(&line[..line.len().min(uts::NAME_LEN)]);
    Ok(())
}

/// A number that was written to a setting that is as large as an address.
fn parse_unsigned(bytes: &[u8]) -> Result<usize> {
    let text = core::str::from_utf8(bytes.trim_ascii()).map_err(|_| EINVAL)?;
    text.parse().map_err(|_| EINVAL)
}

fn set_max_map_count(bytes: &[u8]) -> Result<()> {
    let count = i32::try_from(parse_setting(bytes)?).ok().and_then(|count| usize::try_from(count).ok());
    mm::set_max_mappings(count.ok_or(EINVAL)?);
    Ok(())
}

/// 1 and 3 drop the contents of files that can be read again; what 2 drops, the kernel keeps nothing of.
fn drop_caches(bytes: &[u8]) -> Result<()> {
    match parse_setting(bytes)? {
        1 | 3 => cache::drop_all(),
        2 | 4 => {}
        _ => return Err(EINVAL),
    }
    Ok(())
}

fn random_number() -> u128 {
    u128::from(random::next_u64()) << 64 | u128::from(random::next_u64())
}

/// A random UUID (RFC 9562, version 4).
fn uuid(number: u128, text: &mut Text) {
    let number = number & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let digits = format!("{number:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    put!(text, "{}\n", parts.join("-"));
}
