// SPDX-License-Identifier: MPL-2.0

//! Memory policies: get_mempolicy, set_mempolicy, mbind, set_mempolicy_home_node, migrate_pages, move_pages.
//!
//! Memory is one node, so pages are where they are wanted from the start. Errors are those of Linux 6.1 (`mm/mempolicy.c`,
//! `mm/migrate.c`).

use core::ops::Range;

use vmar::{
    mapping::MappedMemory,
    perms::VmPerms,
    vmar::{populate::Populate, query::MappingInfo},
};
use vmar_ostd::Ostd;

use super::process_vm::check_may_access;
use crate::{
    mm::{
        AddressSpace,
        layout::TASK_SIZE,
        mempolicy::{MemPolicy, Mode, Nodes},
        shared_policy,
    },
    prelude::*,
    process::{credentials::CapSet, table},
};

/// The flags of `get_mempolicy`.
const F_NODE: usize = 1 << 0;
const F_ADDR: usize = 1 << 1;
const F_MEMS_ALLOWED: usize = 1 << 2;

/// The flags of `mbind` and `move_pages`.
const MF_STRICT: u32 = 1 << 0;
const MF_MOVE: u32 = 1 << 1;
const MF_MOVE_ALL: u32 = 1 << 2;

/// The most nodes that Linux can be built for.
const MAX_NODES: usize = 1024;
/// The number of the one there is.
const ONLY_NODE: i32 = 0;
/// How many pages `move_pages` looks at in one go.
const CHUNK: usize = 256;

/// Reads a set of nodes, whose size in bits is one less than `max`.
fn read_nodes(ctx: &Ctx, addr: Vaddr, max: usize) -> Result<Nodes> {
    let bits = max.wrapping_sub(1);
    if bits == 0 || addr == 0 {
        return Ok(Nodes::default());
    }
    if bits > PAGE_SIZE * 8 {
        return Err(EINVAL);
    }
    let mut words: Vec<u64> = ctx.vm.read_vec(addr, bits.div_ceil(64))?;
    if let Some(last) = words.last_mut()
        && !bits.is_multiple_of(64)
    {
        *last &= (1 << (bits % 64)) - 1;
    }
    let is_set = |word: &u64| *word != 0;
    if words.iter().skip(MAX_NODES / 64).any(is_set) {
        return Err(EINVAL);
    }
    let has_more = words.iter().skip(1).any(is_set);
    Ok(Nodes { low: words.first().copied().unwrap_or(0), has_more })
}

/// Writes a set of nodes, whose size in bits is one less than `max`: one word of it, and zeros.
fn write_nodes(ctx: &Ctx, addr: Vaddr, max: usize, nodes: u64) -> Result<()> {
    let size = max.wrapping_sub(1).checked_next_multiple_of(64).ok_or(EINVAL)? / 8;
    if size > PAGE_SIZE {
        return Err(EINVAL);
    }
    let known = size.min(size_of::<u64>());
    ctx.vm.fill_zeros(addr.wrapping_add(known), size - known)?;
    ctx.vm.write_bytes(addr, &nodes.to_ne_bytes()[..known])
}

/// `get_mempolicy(2)`.
pub fn sys_get_mempolicy(
    ctx: &Ctx,
    mode: Vaddr,
    nodes: Vaddr,
    max: usize,
    addr: Vaddr,
    flags: usize,
) -> Result<usize> {
    if nodes != 0 && max == 0 {
        return Err(EINVAL);
    }
    let (number, told) = look_up_policy(ctx, addr, flags)?;
    if mode != 0 {
        ctx.vm.write_val(mode, &number)?;
    }
    if nodes != 0 {
        write_nodes(ctx, nodes, max, told)?;
    }
    Ok(0)
}

/// The number that is asked for, and the nodes.
fn look_up_policy(ctx: &Ctx, addr: Vaddr, flags: usize) -> Result<(u32, u64)> {
    if flags & !(F_NODE | F_ADDR | F_MEMS_ALLOWED) != 0 {
        return Err(EINVAL);
    }
    if flags & F_MEMS_ALLOWED != 0 {
        return if flags == F_MEMS_ALLOWED { Ok((0, Nodes::ONLY.low)) } else { Err(EINVAL) };
    }
    let policy = if flags & F_ADDR != 0 {
        let query = ctx.vm.vmar().query(page_of(addr).ok_or(EFAULT)?);
        shared_policy::policy_at(&query.first().ok_or(EFAULT)?, addr)
    } else if addr != 0 {
        return Err(EINVAL);
    } else {
        *ctx.thread.mem_policy.lock()
    };
    let number = match flags {
        0 | F_ADDR => policy.number(),
        // Where the page is, which is looked at as if it were read.
        _ if flags & F_ADDR != 0 => {
            let page = page_of(addr).ok_or(EFAULT)?;
            let populated = ctx.vm.vmar().populate(page.clone(), Populate::Read);
            if populated.is_err() && !is_in_reach(ctx, page) {
                return Err(EFAULT);
            }
            ONLY_NODE as u32
        }
        // Where the next page comes from.
        _ if policy.mode() == Mode::Interleave => ONLY_NODE as u32,
        _ => return Err(EINVAL),
    };
    Ok((number, policy.nodes()))
}

/// Whether a page is mapped that may be written or executed: the processor reads it then, whatever the mapping says.
#[cold]
fn is_in_reach(ctx: &Ctx, page: Range<Vaddr>) -> bool {
    let query = ctx.vm.vmar().query(page.clone());
    let mut is_mapped = false;
    if let Some(info) = query.first()
        && info.perms().intersects(VmPerms::WRITE | VmPerms::EXEC)
    {
        // Linux 6.1 walks the page table for this, and passes over the page of zeros that all anonymous memory shares. Those
        // of an object are a page of their own there.
        let is_object = matches!(info.memory(), MappedMemory::Vmo { .. });
        info.for_each_page(&page, |_, found| is_mapped = is_object || !found.is_zeros);
    }
    is_mapped
}

/// The page that an address is in.
fn page_of(addr: Vaddr) -> Option<Range<Vaddr>> {
    let start = addr / PAGE_SIZE * PAGE_SIZE;
    (start < TASK_SIZE).then_some(start..start + PAGE_SIZE)
}

/// `set_mempolicy(2)`.
pub fn sys_set_mempolicy(ctx: &Ctx, mode: i32, nodes: Vaddr, max: usize) -> Result<usize> {
    let mode = MemPolicy::parse_mode(mode)?;
    let policy = MemPolicy::new(mode, read_nodes(ctx, nodes, max)?)?;
    *ctx.thread.mem_policy.lock() = policy;
    Ok(0)
}

/// `mbind(2)`.
pub fn sys_mbind(
    ctx: &Ctx,
    addr: Vaddr,
    len: usize,
    mode: i32,
    nodes: Vaddr,
    max: usize,
    flags: u32,
) -> Result<usize> {
    let mode = MemPolicy::parse_mode(mode)?;
    let nodes = read_nodes(ctx, nodes, max)?;
    if flags & !(MF_STRICT | MF_MOVE | MF_MOVE_ALL) != 0 {
        return Err(EINVAL);
    }
    if flags & MF_MOVE_ALL != 0 {
        ctx.credentials().require(CapSet::SYS_NICE)?;
    }
    let Some(range) = whole_pages(addr, len)? else { return Ok(0) };
    let policy = MemPolicy::new(mode, nodes)?;
    // To have no policy suits holes too, and pages anywhere.
    let is_policy = policy.mode() != Mode::Default;
    let is_strict = is_policy && flags & (MF_STRICT | MF_MOVE | MF_MOVE_ALL) == MF_STRICT;
    check_bound(ctx, &range, is_policy, is_strict && !nodes.has_the_only())?;
    shared_policy::bind(ctx.vm, range.start..range.end.min(TASK_SIZE), policy)?;
    Ok(0)
}

/// Looks through what is to have a policy in the order of addresses, as Linux 6.1 does: something must be mapped, all of it if it
/// `must_be_whole`, and no page be there if it `must_be_empty`, because the program has named no node where one could be.
///
/// # Errors
///
/// `EFAULT`, `EIO`.
fn check_bound(ctx: &Ctx, range: &Range<Vaddr>, must_be_whole: bool, must_be_empty: bool) -> Result<()> {
    let query = ctx.vm.vmar().query(range.clone());
    let mut found = query.iter().peekable();
    if found.peek().is_none_or(|first| must_be_whole && first.range().start > range.start) {
        return Err(EFAULT);
    }
    while let Some(info) = found.next() {
        let end = info.range().end;
        if must_be_whole && end < range.end && found.peek().is_none_or(|next| next.range().start > end) {
            return Err(EFAULT);
        }
        if must_be_empty && has_pages(&info, range) {
            return Err(EIO);
        }
    }
    Ok(())
}

/// Whether a mapping has pages in `range`: those of devices are none, nor is the page of zeros that all anonymous memory shares.
fn has_pages(info: &MappingInfo<'_, Ostd>, range: &Range<Vaddr>) -> bool {
    let is_object = match info.memory() {
        MappedMemory::Anonymous => false,
        MappedMemory::Vmo { .. } => true,
        _ => return false,
    };
    let mut has_some = false;
    info.for_each_page(range, |_, page| has_some |= is_object || !page.is_zeros);
    has_some
}

/// The pages of `addr..addr + len`, where `addr` must be the start of one; nothing if there are none.
fn whole_pages(addr: Vaddr, len: usize) -> Result<Option<Range<Vaddr>>> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(EINVAL);
    }
    // A length that wraps is none, as in Linux.
    let size = len.checked_next_multiple_of(PAGE_SIZE).unwrap_or(0);
    let end = addr.checked_add(size).ok_or(EINVAL)?;
    Ok((size != 0).then_some(addr..end))
}

/// `set_mempolicy_home_node(2)`.
pub fn sys_set_mempolicy_home_node(
    ctx: &Ctx,
    addr: Vaddr,
    len: usize,
    node: usize,
    flags: usize,
) -> Result<usize> {
    if !addr.is_multiple_of(PAGE_SIZE) || flags != 0 || node != ONLY_NODE as usize {
        return Err(EINVAL);
    }
    let Some(range) = whole_pages(addr, len)? else { return Ok(0) };
    let mut outcome = Err(ENOENT);
    let mut at = range.start;
    // What comes before a mapping with another policy keeps its home, as in Linux.
    while at < range.end {
        let found = ctx.vm.vmar().query(at..range.end).first().map(|info| (info.range(), info.label()));
        let Some((found, label)) = found else { break };
        let policy = MemPolicy::from_label(label);
        match policy.mode() {
            Mode::Default => {}
            Mode::Bind | Mode::PreferredMany => {
                shared_policy::bind(ctx.vm, at.max(found.start)..range.end.min(found.end), policy.at_home())?;
                outcome = Ok(0);
            }
            _ => return Err(EOPNOTSUPP),
        }
        at = found.end;
    }
    outcome
}

/// The thread that a call names by its number, 0 for the caller, once the caller is known to have a say.
fn target(ctx: &Ctx, pid: i32) -> Result<Arc<Thread>> {
    let thread = match pid {
        0 => ctx.thread.clone(),
        _ => table::thread(pid as Tid).ok_or(ESRCH)?,
    };
    check_may_access(ctx, &thread)?;
    Ok(thread)
}

/// `migrate_pages(2)`. All pages are on the one node already.
pub fn sys_migrate_pages(ctx: &Ctx, pid: i32, max: usize, old: Vaddr, new: Vaddr) -> Result<usize> {
    read_nodes(ctx, old, max)?;
    let new = read_nodes(ctx, new, max)?;
    let thread = target(ctx, pid)?;
    if new.has_others() {
        ctx.credentials().require(CapSet::SYS_NICE)?;
    }
    if !new.has_the_only() || !thread.process().has_vm() {
        return Err(EINVAL);
    }
    Ok(0)
}

/// `move_pages(2)`.
pub fn sys_move_pages(
    ctx: &Ctx,
    pid: i32,
    count: usize,
    pages: Vaddr,
    nodes: Vaddr,
    status: Vaddr,
    flags: u32,
) -> Result<usize> {
    if flags & !(MF_MOVE | MF_MOVE_ALL) != 0 {
        return Err(EINVAL);
    }
    if flags & MF_MOVE_ALL != 0 {
        ctx.credentials().require(CapSet::SYS_NICE)?;
    }
    let vm = target(ctx, pid)?.process().vm().ok_or(EINVAL)?;
    let mut at = 0;
    while at < count {
        // The arrays may be as large as a program can make them.
        if ctx.thread.must_exit.load(Ordering::Relaxed) {
            return Err(EINTR);
        }
        let some = (count - at).min(CHUNK);
        let addrs: Vec<u64> = ctx.vm.read_vec(element(pages, at, size_of::<u64>())?, some)?;
        if nodes != 0 {
            let wanted: Vec<i32> = ctx.vm.read_vec(element(nodes, at, size_of::<i32>())?, some)?;
            if wanted.iter().any(|node| *node != ONLY_NODE) {
                return Err(ENODEV);
            }
        }
        let found = try_collect(addrs.iter().map(|addr| node_of(&vm, *addr as Vaddr)))?;
        ctx.vm.write_slice(element(status, at, size_of::<i32>())?, &found)?;
        at += some;
    }
    Ok(0)
}

/// Where element `index` of an array is.
fn element(array: Vaddr, index: usize, size: usize) -> Result<Vaddr> {
    index.checked_mul(size).and_then(|offset| array.checked_add(offset)).ok_or(EFAULT)
}

/// The node that a page is on, or why there is none, as a negative errno.
fn node_of(vm: &AddressSpace, addr: Vaddr) -> i32 {
    let error = |error: Errno| error.to_return_value() as i32;
    let Some(page) = page_of(addr) else { return error(EFAULT) };
    let query = vm.vmar().query(page.clone());
    let Some(info) = query.first() else { return error(EFAULT) };
    let mut is_there = false;
    info.for_each_page(&page, |_, found| is_there |= !found.is_zeros);
    match info.memory() {
        _ if is_there => ONLY_NODE,
        MappedMemory::Vmo { .. } => error(ENOENT),
        // Nothing or the shared zeros, which look alike.
        _ => error(EFAULT),
    }
}
