// Print one price: lookup NAME SYMBOL. Links to libshmsync.a, see docs/howto/c.md.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::ptr::null;

#[repr(C)]
struct Snapshot {
    payload: *const u8,
    size: u64,
    incarnation: u64,
    seq: u64,
    reserved: [u64; 12],
}

#[repr(C)]
struct Value {
    kind: i32,
    ext_type: i32,
    i: i64,
    u: u64,
    f: f64,
    data: *const u8,
    size: u64,
    reserved: [u64; 58],
}

const FLOAT: i32 = 4;

extern "C" {
    fn shmsync_attach(out: *mut *mut c_void, name: *const c_char, options: *const c_void) -> c_int;
    fn shmsync_detach(handle: *mut c_void);
    fn shmsync_pin(handle: *mut c_void, out: *mut Snapshot) -> c_int;
    fn shmsync_unpin(snapshot: *mut Snapshot) -> c_int;
    fn shmsync_parse(snapshot: *const Snapshot, out: *mut Value) -> c_int;
    fn shmsync_find_str(map: *const Value, key: *const c_char, size: usize, out: *mut Value) -> c_int;
    fn shmsync_strerror(result: c_int) -> *const c_char;
}

fn check(result: c_int) -> Result<(), String> {
    if result == 0 {
        return Ok(());
    }
    Err(unsafe { CStr::from_ptr(shmsync_strerror(result)) }.to_string_lossy().into_owned())
}

/// A handle. It has no `Send` or `Sync`: it belongs to one thread.
struct Reader(*mut c_void);

impl Reader {
    fn open(name: &str) -> Result<Reader, String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        let mut handle = std::ptr::null_mut();
        check(unsafe { shmsync_attach(&mut handle, name.as_ptr(), null()) })?;
        Ok(Reader(handle))
    }

    fn price(&self, symbol: &str) -> Result<f64, String> {
        unsafe {
            let mut newest: Snapshot = std::mem::zeroed();
            let (mut value, mut price): (Value, Value) = (std::mem::zeroed(), std::mem::zeroed());
            check(shmsync_pin(self.0, &mut newest))?;
            let mut result = shmsync_parse(&newest, &mut value);
            if result == 0 {
                result = shmsync_find_str(&value, symbol.as_ptr().cast(), symbol.len(), &mut price);
            }
            shmsync_unpin(&mut newest);
            check(result)?;
            if price.kind == FLOAT { Ok(price.f) } else { Err("not a float".into()) }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        unsafe { shmsync_detach(self.0) }
    }
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().collect();
    println!("{:.2}", Reader::open(&arguments[1])?.price(&arguments[2])?);
    Ok(())
}
