// SPDX-License-Identifier: MPL-2.0

//! Which function does which system call.

use linux_raw_sys::general::*;
use ostd::arch::cpu::context::UserContext;

use super::*;
use crate::prelude::*;

/// Makes the dispatch of numbers to functions.
///
/// `NR => function(n)` calls `function(ctx, a1, .., an)`, each argument converted with `as`. `NR => function(regs)`
/// calls `function(ctx, registers, arguments)` for the few calls that need or set registers; such a function answers
/// `None` when it has set them all. No register is read that the call does not ask for.
macro_rules! table {
    ($ctx:ident, $registers:ident, $number:ident; $($name:ident => $function:path, $kind:tt;)*) => {
        match $number {
            $($name => table!(@call $ctx, $registers, $function, $kind),)*
            _ => Err(unknown($ctx, $number)),
        }
    };
    (@call $c:ident, $r:ident, $f:path, regs) => { with_registers($c, $r, $f) };
    (@call $c:ident, $r:ident, $f:path, 0) => { $f($c) };
    (@call $c:ident, $r:ident, $f:path, 1) => { $f($c, $r.rdi() as _) };
    (@call $c:ident, $r:ident, $f:path, 2) => { $f($c, $r.rdi() as _, $r.rsi() as _) };
    (@call $c:ident, $r:ident, $f:path, 3) => { $f($c, $r.rdi() as _, $r.rsi() as _, $r.rdx() as _) };
    (@call $c:ident, $r:ident, $f:path, 4) => {
        $f($c, $r.rdi() as _, $r.rsi() as _, $r.rdx() as _, $r.r10() as _)
    };
    (@call $c:ident, $r:ident, $f:path, 5) => {
        $f($c, $r.rdi() as _, $r.rsi() as _, $r.rdx() as _, $r.r10() as _, $r.r8() as _)
    };
    (@call $c:ident, $r:ident, $f:path, 6) => {
        $f($c, $r.rdi() as _, $r.rsi() as _, $r.rdx() as _, $r.r10() as _, $r.r8() as _, $r.r9() as _)
    };
}

/// Runs system call `number`, and answers what goes into `rax`.
#[expect(non_upper_case_globals, reason = "the numbers have Linux's own names")]
pub(super) fn call(ctx: &Ctx, registers: &mut UserContext, number: u32) -> Result<usize> {
    table! { ctx, registers, number;
        // Processes and threads.
        __NR_fork => process::sys_fork, regs;
        __NR_vfork => process::sys_vfork, regs;
        __NR_clone => process::sys_clone, regs;
        __NR_clone3 => process::sys_clone3, regs;
        __NR_execve => exec::sys_execve, regs;
        __NR_execveat => exec::sys_execveat, regs;
        __NR_exit => process::sys_exit, 1;
        __NR_exit_group => process::sys_exit_group, 1;
        __NR_wait4 => wait::sys_wait4, 4;
        __NR_waitid => wait::sys_waitid, 5;
        __NR_set_tid_address => process::sys_set_tid_address, 1;
        __NR_set_robust_list => process::sys_set_robust_list, 2;
        __NR_get_robust_list => process::sys_get_robust_list, 3;
        __NR_pidfd_open => process::sys_pidfd_open, 2;
        __NR_getpid => ids::sys_getpid, 0;
        __NR_gettid => ids::sys_gettid, 0;
        __NR_getppid => ids::sys_getppid, 0;
        __NR_getpgrp => ids::sys_getpgrp, 0;
        __NR_getpgid => ids::sys_getpgid, 1;
        __NR_setpgid => ids::sys_setpgid, 2;
        __NR_getsid => ids::sys_getsid, 1;
        __NR_setsid => ids::sys_setsid, 0;
        __NR_ptrace => ptrace::sys_ptrace, 4;
        __NR_prctl => prctl::sys_prctl, 5;
        __NR_arch_prctl => prctl::sys_arch_prctl, 2;

        // Credentials.
        __NR_getuid => credentials::sys_getuid, 0;
        __NR_geteuid => credentials::sys_geteuid, 0;
        __NR_getgid => credentials::sys_getgid, 0;
        __NR_getegid => credentials::sys_getegid, 0;
        __NR_getresuid => credentials::sys_getresuid, 3;
        __NR_getresgid => credentials::sys_getresgid, 3;
        __NR_setuid => credentials::sys_setuid, 1;
        __NR_setgid => credentials::sys_setgid, 1;
        __NR_setreuid => credentials::sys_setreuid, 2;
        __NR_setregid => credentials::sys_setregid, 2;
        __NR_setresuid => credentials::sys_setresuid, 3;
        __NR_setresgid => credentials::sys_setresgid, 3;
        __NR_setfsuid => credentials::sys_setfsuid, 1;
        __NR_setfsgid => credentials::sys_setfsgid, 1;
        __NR_getgroups => credentials::sys_getgroups, 2;
        __NR_setgroups => credentials::sys_setgroups, 2;
        __NR_capget => credentials::sys_capget, 2;
        __NR_capset => credentials::sys_capset, 2;

        // Limits and scheduling.
        __NR_getrlimit => usage::sys_getrlimit, 2;
        __NR_setrlimit => usage::sys_setrlimit, 2;
        __NR_prlimit64 => usage::sys_prlimit64, 4;
        __NR_getrusage => usage::sys_getrusage, 2;
        __NR_times => usage::sys_times, 1;
        __NR_sched_yield => sched::sys_sched_yield, 0;
        __NR_getcpu => sched::sys_getcpu, 2;
        __NR_sched_getaffinity => sched::sys_sched_getaffinity, 3;
        __NR_sched_setaffinity => sched::sys_sched_setaffinity, 3;
        __NR_getpriority => sched::sys_getpriority, 2;
        __NR_setpriority => sched::sys_setpriority, 3;
        __NR_sched_getscheduler => sched::sys_sched_getscheduler, 1;
        __NR_sched_setscheduler => sched::sys_sched_setscheduler, 3;
        __NR_sched_getparam => sched::sys_sched_getparam, 2;
        __NR_sched_setparam => sched::sys_sched_setparam, 2;
        __NR_sched_get_priority_max => sched::sys_sched_get_priority_max, 1;
        __NR_sched_get_priority_min => sched::sys_sched_get_priority_min, 1;
        __NR_sched_getattr => sched_more::sys_sched_getattr, 4;
        __NR_sched_setattr => sched_more::sys_sched_setattr, 3;
        __NR_ioprio_get => sched_more::sys_ioprio_get, 2;
        __NR_ioprio_set => sched_more::sys_ioprio_set, 3;
        __NR_unshare => process::sys_unshare, 1;
        __NR_sched_rr_get_interval => sched::sys_sched_rr_get_interval, 2;

        // The machine.
        __NR_uname => system::sys_uname, 1;
        __NR_sethostname => system::sys_sethostname, 2;
        __NR_setdomainname => system::sys_setdomainname, 2;
        __NR_sysinfo => system::sys_sysinfo, 1;
        __NR_getrandom => system::sys_getrandom, 3;
        __NR_reboot => system::sys_reboot, 3;
        __NR_personality => system::sys_personality, 1;
        __NR_vhangup => system::sys_vhangup, 0;
        __NR_syslog => system::sys_syslog, 3;

        // Memory.
        __NR_mmap => memory::sys_mmap, 6;
        __NR_munmap => memory::sys_munmap, 2;
        __NR_mprotect => mprotect::sys_mprotect, 3;
        __NR_pkey_mprotect => mprotect::sys_pkey_mprotect, 4;
        __NR_pkey_alloc => mprotect::sys_pkey_alloc, 2;
        __NR_pkey_free => mprotect::sys_pkey_free, 1;
        __NR_mseal => mprotect::sys_mseal, 3;
        __NR_mremap => mremap::sys_mremap, 5;
        __NR_remap_file_pages => mremap::sys_remap_file_pages, 5;
        __NR_brk => memory::sys_brk, 1;
        __NR_madvise => madvise::sys_madvise, 3;
        __NR_process_madvise => madvise::sys_process_madvise, 5;
        __NR_get_mempolicy => mempolicy::sys_get_mempolicy, 5;
        __NR_set_mempolicy => mempolicy::sys_set_mempolicy, 3;
        __NR_mbind => mempolicy::sys_mbind, 6;
        __NR_set_mempolicy_home_node => mempolicy::sys_set_mempolicy_home_node, 4;
        __NR_migrate_pages => mempolicy::sys_migrate_pages, 4;
        __NR_move_pages => mempolicy::sys_move_pages, 6;
        __NR_shmget => shm::sys_shmget, 3;
        __NR_shmat => shm::sys_shmat, 3;
        __NR_shmdt => shm::sys_shmdt, 1;
        __NR_shmctl => shm::sys_shmctl, 3;
        __NR_msync => memory_use::sys_msync, 3;
        __NR_mincore => memory_use::sys_mincore, 3;
        __NR_mlock => memory_use::sys_mlock, 2;
        __NR_mlock2 => memory_use::sys_mlock2, 3;
        __NR_munlock => memory_use::sys_munlock, 2;
        __NR_mlockall => memory_use::sys_mlockall, 1;
        __NR_munlockall => memory_use::sys_munlockall, 0;
        __NR_process_mrelease => process_mrelease::sys_process_mrelease, 2;
        __NR_process_vm_readv => process_vm::sys_process_vm_readv, 6;
        __NR_process_vm_writev => process_vm::sys_process_vm_writev, 6;

        // Signals and time.
        __NR_rt_sigaction => signal::sys_rt_sigaction, 4;
        __NR_rt_sigprocmask => signal::sys_rt_sigprocmask, 4;
        __NR_rt_sigpending => signal::sys_rt_sigpending, 2;
        __NR_rt_sigsuspend => signal::sys_rt_sigsuspend, 2;
        __NR_rt_sigtimedwait => signal::sys_rt_sigtimedwait, 4;
        __NR_rt_sigreturn => signal::sys_rt_sigreturn, regs;
        __NR_sigaltstack => signal::sys_sigaltstack, regs;
        __NR_pause => signal::sys_pause, 0;
        __NR_restart_syscall => signal::sys_restart_syscall, 0;
        __NR_signalfd => signal::sys_signalfd, 3;
        __NR_signalfd4 => signal::sys_signalfd4, 4;
        __NR_kill => kill::sys_kill, 2;
        __NR_tkill => kill::sys_tkill, 2;
        __NR_tgkill => kill::sys_tgkill, 3;
        __NR_rt_sigqueueinfo => kill::sys_rt_sigqueueinfo, 3;
        __NR_rt_tgsigqueueinfo => kill::sys_rt_tgsigqueueinfo, 4;
        __NR_pidfd_send_signal => kill::sys_pidfd_send_signal, 4;
        __NR_clock_gettime => time::sys_clock_gettime, 2;
        __NR_clock_getres => time::sys_clock_getres, 2;
        __NR_clock_settime => time::sys_clock_settime, 2;
        __NR_clock_nanosleep => time::sys_clock_nanosleep, 4;
        __NR_clock_adjtime => time::sys_clock_adjtime, 2;
        __NR_nanosleep => time::sys_nanosleep, 2;
        __NR_gettimeofday => time::sys_gettimeofday, 2;
        __NR_settimeofday => time::sys_settimeofday, 2;
        __NR_time => time::sys_time, 1;
        __NR_adjtimex => time::sys_adjtimex, 1;
        __NR_getitimer => timer::sys_getitimer, 2;
        __NR_setitimer => timer::sys_setitimer, 3;
        __NR_alarm => timer::sys_alarm, 1;
        __NR_timer_create => timer::sys_timer_create, 3;
        __NR_timer_settime => timer::sys_timer_settime, 4;
        __NR_timer_gettime => timer::sys_timer_gettime, 2;
        __NR_timer_getoverrun => timer::sys_timer_getoverrun, 1;
        __NR_timer_delete => timer::sys_timer_delete, 1;
        __NR_timerfd_create => timer::sys_timerfd_create, 2;
        __NR_timerfd_settime => timer::sys_timerfd_settime, 4;
        __NR_timerfd_gettime => timer::sys_timerfd_gettime, 2;
        __NR_futex => futex::sys_futex, 6;
        __NR_futex_waitv => futex::sys_futex_waitv, 5;
        __NR_rseq => rseq::sys_rseq, 4;
        __NR_membarrier => rseq::sys_membarrier, 3;

        // Files.
        __NR_open => fs_open::sys_open, 3;
        __NR_creat => fs_open::sys_creat, 2;
        __NR_openat => fs_open::sys_openat, 4;
        __NR_openat2 => fs_open::sys_openat2, 4;
        __NR_close => fs_open::sys_close, 1;
        __NR_close_range => fs_open::sys_close_range, 3;
        __NR_pipe => fs_open::sys_pipe, 1;
        __NR_pipe2 => fs_open::sys_pipe2, 2;
        __NR_memfd_create => fs_open::sys_memfd_create, 2;
        __NR_userfaultfd => crate::fs::userfaultfd::create, 1;
        __NR_read => fs_rw::sys_read, 3;
        __NR_write => fs_rw::sys_write, 3;
        __NR_readv => fs_rw::sys_readv, 3;
        __NR_writev => fs_rw::sys_writev, 3;
        __NR_pread64 => fs_rw::sys_pread64, 4;
        __NR_pwrite64 => fs_rw::sys_pwrite64, 4;
        __NR_preadv => fs_rw::sys_preadv, 4;
        __NR_pwritev => fs_rw::sys_pwritev, 4;
        __NR_preadv2 => fs_rw::sys_preadv2, 6;
        __NR_pwritev2 => fs_rw::sys_pwritev2, 6;
        __NR_lseek => fs_rw::sys_lseek, 3;
        __NR_sendfile => fs_copy::sys_sendfile, 4;
        __NR_copy_file_range => fs_copy::sys_copy_file_range, 6;
        __NR_splice => fs_copy::sys_splice, 6;
        __NR_tee => fs_copy::sys_tee, 4;
        __NR_vmsplice => fs_copy::sys_vmsplice, 4;
        __NR_stat => fs_stat::sys_stat, 2;
        __NR_lstat => fs_stat::sys_lstat, 2;
        __NR_fstat => fs_stat::sys_fstat, 2;
        __NR_newfstatat => fs_stat::sys_newfstatat, 4;
        __NR_statx => fs_stat::sys_statx, 5;
        __NR_statfs => fs_stat::sys_statfs, 2;
        __NR_fstatfs => fs_stat::sys_fstatfs, 2;
        __NR_access => fs_stat::sys_access, 2;
        __NR_faccessat => fs_stat::sys_faccessat, 3;
        __NR_faccessat2 => fs_stat::sys_faccessat2, 4;
        __NR_readlink => fs_stat::sys_readlink, 3;
        __NR_readlinkat => fs_stat::sys_readlinkat, 4;
        __NR_chmod => fs_attr::sys_chmod, 2;
        __NR_fchmod => fs_attr::sys_fchmod, 2;
        __NR_fchmodat => fs_attr::sys_fchmodat, 3;
        __NR_fchmodat2 => fs_attr::sys_fchmodat2, 4;
        __NR_chown => fs_attr::sys_chown, 3;
        __NR_lchown => fs_attr::sys_lchown, 3;
        __NR_fchown => fs_attr::sys_fchown, 3;
        __NR_fchownat => fs_attr::sys_fchownat, 5;
        __NR_utimensat => fs_attr::sys_utimensat, 4;
        __NR_futimesat => fs_attr::sys_futimesat, 3;
        __NR_utimes => fs_attr::sys_utimes, 2;
        __NR_utime => fs_attr::sys_utime, 2;
        __NR_mkdir => fs_dir::sys_mkdir, 2;
        __NR_mkdirat => fs_dir::sys_mkdirat, 3;
        __NR_mknod => fs_dir::sys_mknod, 3;
        __NR_mknodat => fs_dir::sys_mknodat, 4;
        __NR_symlink => fs_dir::sys_symlink, 2;
        __NR_symlinkat => fs_dir::sys_symlinkat, 3;
        __NR_link => fs_dir::sys_link, 2;
        __NR_linkat => fs_dir::sys_linkat, 5;
        __NR_rmdir => fs_dir::sys_rmdir, 1;
        __NR_unlink => fs_dir::sys_unlink, 1;
        __NR_unlinkat => fs_dir::sys_unlinkat, 3;
        __NR_rename => fs_dir::sys_rename, 2;
        __NR_renameat => fs_dir::sys_renameat, 4;
        __NR_renameat2 => fs_dir::sys_renameat2, 5;
        __NR_getdents => fs_dir::sys_getdents, 3;
        __NR_getdents64 => fs_dir::sys_getdents64, 3;
        __NR_getcwd => fs_dir::sys_getcwd, 2;
        __NR_chdir => fs_dir::sys_chdir, 1;
        __NR_fchdir => fs_dir::sys_fchdir, 1;
        __NR_chroot => fs_dir::sys_chroot, 1;
        __NR_umask => fs_dir::sys_umask, 1;
        __NR_truncate => fs_size::sys_truncate, 2;
        __NR_ftruncate => fs_size::sys_ftruncate, 2;
        __NR_fallocate => fs_size::sys_fallocate, 4;
        __NR_sync => fs_size::sys_sync, 0;
        __NR_syncfs => fs_size::sys_syncfs, 1;
        __NR_fsync => fs_size::sys_fsync, 1;
        __NR_fdatasync => fs_size::sys_fsync, 1;
        __NR_sync_file_range => fs_size::sys_sync_file_range, 4;
        __NR_fadvise64 => fs_size::sys_fadvise64, 4;
        __NR_readahead => fs_size::sys_readahead, 3;
        __NR_dup => fs_fcntl::sys_dup, 1;
        __NR_dup2 => fs_fcntl::sys_dup2, 2;
        __NR_dup3 => fs_fcntl::sys_dup3, 3;
        __NR_fcntl => fs_fcntl::sys_fcntl, 3;
        __NR_flock => fs_fcntl::sys_flock, 2;
        __NR_ioctl => fs_fcntl::sys_ioctl, 3;
        __NR_mount => fs_mount::sys_mount, 5;
        __NR_umount2 => fs_mount::sys_umount2, 2;
        __NR_getxattr => fs_xattr::sys_getxattr, 4;
        __NR_lgetxattr => fs_xattr::sys_lgetxattr, 4;
        __NR_fgetxattr => fs_xattr::sys_fgetxattr, 4;
        __NR_setxattr => fs_xattr::sys_setxattr, 5;
        __NR_lsetxattr => fs_xattr::sys_lsetxattr, 5;
        __NR_fsetxattr => fs_xattr::sys_fsetxattr, 5;
        __NR_listxattr => fs_xattr::sys_listxattr, 3;
        __NR_llistxattr => fs_xattr::sys_llistxattr, 3;
        __NR_flistxattr => fs_xattr::sys_flistxattr, 3;
        __NR_removexattr => fs_xattr::sys_removexattr, 2;
        __NR_lremovexattr => fs_xattr::sys_lremovexattr, 2;
        __NR_fremovexattr => fs_xattr::sys_fremovexattr, 2;

        // Devices, sockets and readiness.
        __NR_socket => socket::sys_socket, 3;
        __NR_socketpair => socket::sys_socketpair, 4;
        __NR_bind => socket::sys_bind, 3;
        __NR_listen => socket::sys_listen, 2;
        __NR_accept => socket::sys_accept, 3;
        __NR_accept4 => socket::sys_accept4, 4;
        __NR_connect => socket::sys_connect, 3;
        __NR_shutdown => socket::sys_shutdown, 2;
        __NR_getsockname => socket::sys_getsockname, 3;
        __NR_getpeername => socket::sys_getpeername, 3;
        __NR_setsockopt => socket::sys_setsockopt, 5;
        __NR_getsockopt => socket::sys_getsockopt, 5;
        __NR_sendto => socket_message::sys_sendto, 6;
        __NR_recvfrom => socket_message::sys_recvfrom, 6;
        __NR_sendmsg => socket_message::sys_sendmsg, 3;
        __NR_recvmsg => socket_message::sys_recvmsg, 3;
        __NR_sendmmsg => socket_message::sys_sendmmsg, 4;
        __NR_recvmmsg => socket_message::sys_recvmmsg, 5;
        __NR_poll => poll::sys_poll, 3;
        __NR_ppoll => poll::sys_ppoll, 5;
        __NR_select => poll::sys_select, 5;
        __NR_pselect6 => poll::sys_pselect6, 6;
        __NR_eventfd => epoll::sys_eventfd, 1;
        __NR_eventfd2 => epoll::sys_eventfd2, 2;
        __NR_epoll_create => epoll::sys_epoll_create, 1;
        __NR_epoll_create1 => epoll::sys_epoll_create1, 1;
        __NR_epoll_ctl => epoll::sys_epoll_ctl, 4;
        __NR_epoll_wait => epoll::sys_epoll_wait, 4;
        __NR_epoll_pwait => epoll::sys_epoll_pwait, 6;
        __NR_epoll_pwait2 => epoll::sys_epoll_pwait2, 6;
    }
}

/// Runs a call that needs or sets registers.
fn with_registers(
    ctx: &Ctx,
    registers: &mut UserContext,
    call: fn(&Ctx, &mut UserContext, [usize; 6]) -> Result<Option<usize>>,
) -> Result<usize> {
    let arguments =
        [registers.rdi(), registers.rsi(), registers.rdx(), registers.r10(), registers.r8(), registers.r9()];
    // These may stop for a tracer, who sees the number.
    if !ctx.local.watches_calls() {
        ctx.local.set_call(registers.rax());
    }
    let result = call(ctx, registers, arguments);
    ctx.local.forget_call();
    Ok(result?.unwrap_or_else(|| registers.rax()))
}
