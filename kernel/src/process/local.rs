// SPDX-License-Identifier: MPL-2.0

//! What only a thread itself touches: its registers outside the kernel's own, and the address space it runs in.
//!
//! The floating-point state and the FS base stay in the CPU while the thread is in the kernel (which uses neither). They
//! are saved when the CPU goes to another task, and loaded just before the thread next enters user mode:
//!
//! ```text
//! user ──syscall──► kernel ──► user            nothing saved, nothing loaded
//! user ──syscall──► kernel ──switch──► other   saved;  loaded again before user mode
//! ```

use core::cell::{Cell, RefCell};

use ostd::{
    arch::cpu::context::{FpuContext, FsBase, GsBase},
    irq::DisabledLocalIrqGuard,
    task::{CurrentTask, Task},
};

use crate::{
    mm::AddressSpace,
    prelude::*,
    process::{
        fpu::FpuState,
        ptrace::registers::NO_CALL,
        rseq::{Outcome, Rseq},
    },
    signal,
};

/// A thread's private state; the local data of its task.
pub struct ThreadLocal {
    fpu: RefCell<FpuState>,
    fs_base: Cell<FsBase>,
    gs_base: Cell<GsBase>,
    /// Whether the CPU holds the three above, and holds them more truly than the fields.
    in_cpu: Cell<bool>,
    vm: RefCell<Arc<AddressSpace>>,
    /// Whether the thread was moved to another address space and has not settled there.
    has_moved: Cell<bool>,
    last_trap: Cell<LastTrap>,
    /// The number of the system call in progress, as far as somebody may ask for it: one that nobody watches and that ends
    /// as it should is not noted. [`NO_CALL`] for none.
    call: Cell<usize>,
    /// Whether a tracer wants to see calls. Always if it does, and perhaps if it has just gone.
    watches_calls: Cell<bool>,
    /// Whether the end of a call is still to be reported to a tracer.
    exit_due: Cell<bool>,
    rseq: Rseq,
    /// Whether a page fault of the kernel on user memory must fail at once.
    in_atomic: Cell<bool>,
    /// Whether a page fault of user mode is being served.
    in_user_fault: Cell<bool>,
    /// Whether the task runs no thread.
    is_nobodys: Cell<bool>,
}

/// The exception that a thread caused last; a signal's context tells of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastTrap {
    /// The number of its vector.
    pub number: usize,
    /// The error code that the CPU gave with it.
    pub error_code: usize,
    /// The address, if it was a page fault.
    pub addr: Vaddr,
}

impl ThreadLocal {
    /// The state of a thread that starts afresh in `vm`.
    pub fn new(vm: Arc<AddressSpace>) -> Self {
        Self::starting_with(FpuState::initial(), FsBase::new(0), GsBase::new(0), vm, Rseq::default())
    }

    /// The state of a thread that the calling thread clones, to run in `vm`.
    pub fn clone_for(&self, vm: Arc<AddressSpace>) -> Self {
        let fpu = {
            let guard = ostd::irq::disable_local();
            self.save(&guard);
            self.fpu.borrow().copy(&guard)
        };
        // A thread in the same memory has an area of its own, or none.
        let is_copy = !Arc::ptr_eq(&self.vm.borrow(), &vm);
        let rseq = if is_copy { self.rseq.clone() } else { Rseq::default() };
        Self::starting_with(fpu, self.fs_base.get(), self.gs_base.get(), vm, rseq)
    }

    /// What a task has that runs no thread.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn of_nobody() -> Result<Self> {
        let kernel = AddressSpace::kernel()?;
        let none =
            Self::starting_with(FpuState::none(), FsBase::new(0), GsBase::new(0), kernel, Rseq::default());
        none.is_nobodys.set(true);
        Ok(none)
    }

    fn starting_with(
        fpu: FpuState,
        fs_base: FsBase,
        gs_base: GsBase,
        vm: Arc<AddressSpace>,
        rseq: Rseq,
    ) -> Self {
        Self {
            fpu: RefCell::new(fpu),
            fs_base: Cell::new(fs_base),
            gs_base: Cell::new(gs_base),
            in_cpu: Cell::new(false),
            vm: RefCell::new(vm),
            has_moved: Cell::new(false),
            last_trap: Cell::new(LastTrap::default()),
            call: Cell::new(NO_CALL),
            watches_calls: Cell::new(false),
            exit_due: Cell::new(false),
            rseq,
            in_atomic: Cell::new(false),
            in_user_fault: Cell::new(false),
            is_nobodys: Cell::new(false),
        }
    }

    /// Gives up what the thread had of the machine; it is in the kernel's own address space already.
    pub fn become_nobodys(&self) {
        self.is_nobodys.set(true);
        self.in_cpu.set(false);
        let fpu = self.fpu.replace(FpuState::none());
        drop(fpu);
        self.rseq.forget();
    }

    /// Becomes the state of another thread, which starts with what `other` has, and goes to its address space.
    pub fn become_that_of(&self, other: Self) {
        let Self {
            fpu,
            fs_base,
            gs_base,
            in_cpu,
            vm,
            has_moved,
            last_trap,
            call,
            watches_calls,
            exit_due,
            rseq,
            in_atomic,
            in_user_fault,
            is_nobodys,
        } = other;
        self.is_nobodys.set(is_nobodys.get());
        let nobodys = self.fpu.replace(fpu.into_inner());
        drop(nobodys);
        self.fs_base.set(fs_base.get());
        self.gs_base.set(gs_base.get());
        self.in_cpu.set(in_cpu.get());
        self.set_vm(vm.into_inner());
        self.has_moved.set(has_moved.get());
        self.last_trap.set(last_trap.get());
        self.call.set(call.get());
        self.watches_calls.set(watches_calls.get());
        self.exit_due.set(exit_due.get());
        self.rseq.become_that_of(&rseq);
        self.in_atomic.set(in_atomic.get());
        self.in_user_fault.set(in_user_fault.get());
    }

    /// The address space the thread runs in.
    pub fn vm(&self) -> Arc<AddressSpace> {
        self.vm.borrow().clone()
    }

    /// Moves the thread to another address space, at once.
    pub fn set_vm(&self, vm: Arc<AddressSpace>) {
        // In this order: whoever switches back to the thread in between activates what is noted.
        let old = self.vm.replace(vm.clone());
        vm.activate();
        self.has_moved.set(true);
        drop(old);
    }

    /// Whether the thread was moved to another address space since it settled there.
    pub fn has_moved(&self) -> bool {
        self.has_moved.get()
    }

    /// Notes that the thread goes on in the address space that it is in.
    pub fn settle_in_space(&self) {
        self.has_moved.set(false);
    }

    /// Gives `f` the floating-point state, up to date, to read and change.
    pub fn with_fpu<R>(&self, f: impl FnOnce(&mut FpuContext) -> R) -> R {
        self.settle();
        f(self.fpu.borrow_mut().context_mut())
    }

    /// The exception that the thread caused last.
    pub fn last_trap(&self) -> LastTrap {
        self.last_trap.get()
    }

    /// Notes an exception of the thread.
    pub fn set_last_trap(&self, trap: LastTrap) {
        self.last_trap.set(trap);
    }

    /// The number of the system call in progress, [`NO_CALL`] for none: of a call that a tracer watches, one that a signal has
    /// interrupted, and one that can stop for a tracer itself.
    pub fn call(&self) -> usize {
        self.call.get()
    }

    /// Notes the number of the system call in progress.
    pub fn set_call(&self, number: usize) {
        self.call.set(number);
    }

    /// Forgets the number of the call in progress, unless a tracer is still to see its end.
    pub fn forget_call(&self) {
        if !self.exit_due.get() {
            self.call.set(NO_CALL);
        }
    }

    /// Whether a tracer may want to see calls.
    pub fn watches_calls(&self) -> bool {
        self.watches_calls.get()
    }

    /// Notes whether a tracer wants to see calls.
    pub fn set_watches_calls(&self, watches: bool) {
        self.watches_calls.set(watches);
    }

    /// Notes that the end of the call in progress is to be reported to a tracer.
    pub fn set_exit_due(&self, thread: &Thread) {
        self.exit_due.set(true);
        thread.is_disturbed.store(true, Ordering::Relaxed);
    }

    /// Whether the end of a call is to be reported, and nobody has asked since.
    pub fn take_exit_due(&self) -> bool {
        self.exit_due.take()
    }

    /// What the thread has registered with `rseq(2)`.
    pub fn rseq(&self) -> &Rseq {
        &self.rseq
    }

    /// Whether a page fault of the kernel on the thread's memory must fail at once: it cannot sleep, or must not wait for
    /// memory.
    pub fn in_atomic(&self) -> bool {
        self.in_atomic.get()
    }

    /// Whether the thread serves a page fault of user mode, not one of the kernel's own.
    pub fn is_in_user_fault(&self) -> bool {
        self.in_user_fault.get()
    }

    /// Notes that the thread serves a page fault of user mode for as long as the answer lives.
    pub fn serve_user_fault(&self) -> UserFault<'_> {
        self.in_user_fault.set(true);
        UserFault(&self.in_user_fault)
    }

    /// The FS base.
    pub fn fs_base(&self) -> Vaddr {
        self.settle();
        self.fs_base.get().addr()
    }

    /// Sets the FS base.
    pub fn set_fs_base(&self, addr: Vaddr) {
        self.settle();
        self.fs_base.set(FsBase::new(addr));
    }

    /// The GS base.
    pub fn gs_base(&self) -> Vaddr {
        self.settle();
        self.gs_base.get().addr()
    }

    /// Sets the GS base.
    pub fn set_gs_base(&self, addr: Vaddr) {
        self.settle();
        self.gs_base.set(GsBase::new(addr));
    }

    /// Forgets the registers' contents: what a new program starts with.
    pub fn reset(&self) {
        {
            let guard = ostd::irq::disable_local();
            self.in_cpu.set(false);
            self.fpu.borrow_mut().reset(&guard);
        }
        self.fs_base.set(FsBase::new(0));
        self.gs_base.set(GsBase::new(0));
        self.rseq.forget();
    }

    /// Brings the fields up to date; the CPU's copy no longer counts.
    fn settle(&self) {
        let guard = ostd::irq::disable_local();
        self.save(&guard);
    }

    fn save(&self, guard: &DisabledLocalIrqGuard) {
        if !self.in_cpu.replace(false) {
            return;
        }
        self.fpu.borrow_mut().save(guard);
        let (mut fs_base, mut gs_base) = (FsBase::default(), GsBase::default());
        fs_base.save();
        gs_base.save(guard);
        self.fs_base.set(fs_base);
        self.gs_base.set(gs_base);
    }

    /// Loads the registers if the CPU does not hold them. Called with interrupts off just before user mode.
    pub fn load(&self, guard: &DisabledLocalIrqGuard) {
        if self.in_cpu.replace(true) {
            return;
        }
        self.fpu.borrow().load();
        self.fs_base.get().load();
        self.gs_base.get().load(guard);
    }

    /// Settles what [`Rseq`] demands just before user mode; see there.
    pub fn settle_rseq_late(&self, thread: &Thread, guard: &DisabledLocalIrqGuard) {
        self.in_atomic.set(true);
        let outcome = self.rseq.settle_late(thread, &self.vm.borrow(), guard);
        self.in_atomic.set(false);
        if outcome == Outcome::Astray
            && let Ok(kernel) = AddressSpace::kernel()
        {
            kernel.activate();
        }
    }

    /// Gives the CPU the thread's address space again after [`Outcome::Astray`]. Answers whether that had to be done.
    pub fn return_from_astray(&self) -> bool {
        let was_astray = self.rseq.was_astray();
        if was_astray {
            self.vm.borrow().activate();
        }
        was_astray
    }
}

/// The thread serves a page fault of user mode while this lives.
#[must_use]
pub struct UserFault<'a>(&'a Cell<bool>);

impl Drop for UserFault<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// The local state of a task that runs a thread.
pub fn of(task: &CurrentTask) -> Option<&ThreadLocal> {
    task.local_data().downcast_ref()
}

/// Runs `f`, in which a page fault of the kernel on the calling thread's memory fails at once, as an access to what is not
/// there does.
pub fn without_faults<R>(f: impl FnOnce() -> R) -> R {
    let task = Task::current();
    let Some(local) = task.as_ref().and_then(of) else { return f() };
    let before = local.in_atomic.replace(true);
    let result = f();
    local.in_atomic.set(before);
    result
}

/// Has OSTD call this module at every switch between tasks, and prepares what new threads take.
pub fn init() {
    super::fpu::init();
    ostd::task::inject_pre_schedule_handler(before_switch);
    ostd::task::inject_post_schedule_handler(after_switch);
}

fn before_switch(guard: &DisabledLocalIrqGuard) {
    if let Some(task) = Task::current()
        && let Some(local) = of(&task)
    {
        local.save(guard);
        if local.rseq.is_registered()
            && let Some(thread) = Thread::of(&task)
        {
            thread.is_disturbed.store(true, Ordering::Relaxed);
        }
    }
}

fn after_switch() {
    crate::sched::after_switch();
    if let Some(task) = Task::current()
        && let Some(local) = of(&task)
        && !local.is_nobodys.get()
    {
        local.vm.borrow().activate();
        // The way to user mode may lead past the look at signals from here.
        if let Some(thread) = Thread::of(&task)
            && signal::has_pending(&thread)
        {
            thread.is_disturbed.store(true, Ordering::Relaxed);
        }
    }
}
