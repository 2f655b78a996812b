//! A disk whose syncs fail: a library that is preloaded into a host (`LD_PRELOAD`) and takes the place of what
//! it writes and syncs files with. `$FAILING_DISK` names a folder, in which:
//!
//! - `fails`: while it is there, every sync fails with EIO.
//! - `lost`: what such a sync should have brought to the disk, `INODE FROM TO` a line (`lost.rs`).
//!
//! A failed sync leaves what Linux leaves (ext4, XFS): the bytes can still be read, they count as written, and
//! they are not on the disk. The next sync says that all is well and brings there only what was written since.
//! Whoever wants to know what a power cut would leave overwrites what is lost with zeros.
//!
//! Limits: Linux with glibc; regular files, written with `write`, `writev` or `pwrite`. Who maps a file into
//! its memory to write it is not seen.

mod lost;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::MetadataExt as _;

const NEXT: *mut c_void = -1_isize as *mut c_void;
const SEEK_CUR: c_int = 1;
const EIO: c_int = 5;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn lseek64(file: c_int, offset: i64, from: c_int) -> i64;
    fn __errno_location() -> *mut c_int;
}

/// The function of this name that the program would have without this library.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: the name ends with a zero byte.
    let found = unsafe { dlsym(NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "there is no {name:?}");
    found
}

macro_rules! next {
    ($name:literal, $type:ty) => {{
        // SAFETY: the type is that of the C library's function of this name.
        unsafe { std::mem::transmute::<*mut c_void, $type>(next($name)) }
    }};
}

/// The inode of an open regular file.
fn inode(file: c_int) -> Option<u64> {
    // SAFETY: it is not closed by this.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(file) });
    let metadata = file.metadata().ok()?;
    metadata.is_file().then(|| metadata.ino())
}

/// So many bytes were written, up to `end` or to where the file stands.
fn written(file: c_int, end: Option<i64>, count: isize) -> isize {
    if let (Ok(count @ 1..), Some(inode)) = (u64::try_from(count), inode(file)) {
        // SAFETY: it changes nothing.
        let end = end.unwrap_or_else(|| unsafe { lseek64(file, 0, SEEK_CUR) });
        if let Some(from) = u64::try_from(end).ok().and_then(|end| end.checked_sub(count)) {
            lost::written(inode, from..from + count);
        }
    }
    count
}

fn sync(file: c_int, sync: impl FnOnce() -> c_int) -> c_int {
    let Some(inode) = inode(file) else {
        return if lost::fails() { failed() } else { sync() };
    };
    if lost::fails() {
        lost::failed(inode);
        return failed();
    }
    let before = lost::begin(inode);
    let result = sync();
    if result == 0 {
        lost::synced(inode, &before);
    }
    result
}

fn failed() -> c_int {
    // SAFETY: it is this thread's own.
    unsafe { *__errno_location() = EIO };
    -1
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, bytes: *const c_void, count: usize) -> isize {
    let next = next!(c"write", unsafe extern "C" fn(c_int, *const c_void, usize) -> isize);
    // SAFETY: as it was called.
    written(file, None, unsafe { next(file, bytes, count) })
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(file: c_int, parts: *const c_void, count: c_int) -> isize {
    let next = next!(c"writev", unsafe extern "C" fn(c_int, *const c_void, c_int) -> isize);
    // SAFETY: as it was called.
    written(file, None, unsafe { next(file, parts, count) })
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    file: c_int,
    bytes: *const c_void,
    count: usize,
    at: i64,
) -> isize {
    let next = next!(c"pwrite64", unsafe extern "C" fn(c_int, *const c_void, usize, i64) -> isize);
    // SAFETY: as it was called.
    let count = unsafe { next(file, bytes, count, at) };
    written(file, Some(at + count as i64), count)
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    let next = next!(c"fsync", unsafe extern "C" fn(c_int) -> c_int);
    // SAFETY: as it was called.
    sync(file, || unsafe { next(file) })
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    let next = next!(c"fdatasync", unsafe extern "C" fn(c_int) -> c_int);
    // SAFETY: as it was called.
    sync(file, || unsafe { next(file) })
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(
    file: c_int,
    from: i64,
    count: i64,
    flags: c_uint,
) -> c_int {
    if lost::fails() {
        return failed();
    }
    let next = next!(c"sync_file_range", unsafe extern "C" fn(c_int, i64, i64, c_uint) -> c_int);
    // SAFETY: as it was called. It promises nothing about the disk, so nothing is noted.
    unsafe { next(file, from, count, flags) }
}

/// # Safety
/// As the function of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn msync(address: *mut c_void, count: usize, flags: c_int) -> c_int {
    if lost::fails() {
        return failed();
    }
    let next = next!(c"msync", unsafe extern "C" fn(*mut c_void, usize, c_int) -> c_int);
    // SAFETY: as it was called.
    unsafe { next(address, count, flags) }
}
