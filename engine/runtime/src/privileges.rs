//! As whom does the process go on? From root to somebody who may do little, once what takes root is done.
//!
//! Never half: who is not certainly rid of everything that root may do is told so, and is not to go on.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::thread::{CapabilitySet, capabilities, set_no_new_privs};

/// Bytes for an entry of the user database; one that needs more (a group with very many members) asks again.
const ENTRY_BYTES: usize = 16 * 1024;

/// What an entry may take at most: some 60,000 members of a group.
const ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// Somebody to go on as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Number of the user.
    pub user: u32,
    /// Number of the group.
    pub group: u32,
    /// By which further groups are known; `None` if the user has only a number.
    name: Option<CString>,
}

impl Identity {
    /// The user of this name or number, in `group` if that is given, else in the group that the user database says. `None` if there is no
    /// such user, or a number that has no entry and comes without a group.
    ///
    /// # Errors
    /// When the user database cannot be asked.
    pub fn of_user(user: &str, group: Option<u32>) -> io::Result<Option<Self>> {
        let number = user.parse::<u32>().ok();
        let entry = match number {
            Some(number) => user_entry(|entry, buffer, found| {
                // SAFETY: `entry` and `found` are valid for writes, `buffer` for its length; the call keeps none of them.
                unsafe { libc::getpwuid_r(number, entry, buffer.as_mut_ptr(), buffer.len(), found) }
            })?,
            None => {
                let name = CString::new(user)?;
                user_entry(|entry, buffer, found| {
                    // SAFETY: as above; `name` ends with a zero and lives until the call returns.
                    unsafe {
                        libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found)
                    }
                })?
            }
        };
        Ok(match (entry, number, group) {
            (Some(entry), _, group) => Some(Self { group: group.unwrap_or(entry.group), ..entry }),
            (None, Some(user), Some(group)) => Some(Self { user, group, name: None }),
            (None, ..) => None,
        })
    }

    /// Whether the process is that already.
    #[must_use]
    pub fn is_current(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.user && rustix::process::getegid().as_raw() == self.group
    }

    /// Goes on as this one: groups, group and user, for every thread of the process; nothing that this thread or one that it begins
    /// executes from here on can gain anything (`no_new_privs`).
    ///
    /// # Errors
    /// When it cannot be done, or when it has been done and the process could undo it: it must not go on then.
    pub fn assume(&self) -> io::Result<()> {
        set_no_new_privs(true)?;
        match &self.name {
            Some(name) => {
                // SAFETY: `name` ends with a zero and lives until the call returns, which keeps nothing of it.
                check(unsafe { libc::initgroups(name.as_ptr(), self.group) })?;
            }
            None => {
                // SAFETY: one number is read from a list of one.
                check(unsafe { libc::setgroups(1, &raw const self.group) })?;
            }
        }
        // The C library's own calls, which do it for all threads; the kernel's do it for one. The group first: the user may not.
        // SAFETY: plain numbers.
        check(unsafe { libc::setresgid(self.group, self.group, self.group) })?;
        // SAFETY: plain numbers.
        check(unsafe { libc::setresuid(self.user, self.user, self.user) })?;
        if self.is_for_good()? {
            Ok(())
        } else {
            Err(io::Error::other("the process could become root again"))
        }
    }

    /// Whether there is no way back.
    fn is_for_good(&self) -> io::Result<bool> {
        let (mut users, mut groups) = ([u32::MAX; 3], [u32::MAX; 3]);
        let [real, effective, saved] = &mut users;
        // SAFETY: three places to write one number to each.
        check(unsafe { libc::getresuid(real, effective, saved) })?;
        let [real, effective, saved] = &mut groups;
        // SAFETY: three places to write one number to each.
        check(unsafe { libc::getresgid(real, effective, saved) })?;
        // SAFETY: a plain number. Somebody else is to be refused.
        let comes_back = self.user != 0 && unsafe { libc::setuid(0) } == 0;
        let held = capabilities(None)?;
        let holds_none = held.effective == CapabilitySet::empty() && held.permitted == CapabilitySet::empty();
        Ok(users == [self.user; 3] && groups == [self.group; 3] && !comes_back && holds_none)
    }
}

/// Number of the group of this name or number; `None` if there is no group of that name.
///
/// # Errors
/// When the user database cannot be asked.
pub fn group_number(group: &str) -> io::Result<Option<u32>> {
    if let Ok(number) = group.parse() {
        return Ok(Some(number));
    }
    let name = CString::new(group)?;
    let mut bytes = ENTRY_BYTES;
    loop {
        let (mut entry, mut found) = (MaybeUninit::<libc::group>::uninit(), ptr::null_mut());
        let mut buffer = vec![0; bytes];
        // SAFETY: `entry` and `found` are valid for writes, `buffer` for its length, `name` ends with a zero; none is kept.
        let code = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match code {
            libc::ERANGE if bytes < ENTRY_BYTES_MAX => bytes *= 4,
            0 if found.is_null() => return Ok(None),
            // SAFETY: `found` is not null, so the call has filled the entry.
            0 => return Ok(Some(unsafe { entry.assume_init_ref() }.gr_gid)),
            libc::ENOENT | libc::ESRCH => return Ok(None),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// Asks the user database by `ask`, which is given an entry to fill, room for its texts and a place to say that it did.
fn user_entry(
    ask: impl Fn(*mut libc::passwd, &mut Vec<libc::c_char>, *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<Identity>> {
    let mut bytes = ENTRY_BYTES;
    loop {
        let (mut entry, mut found) = (MaybeUninit::<libc::passwd>::uninit(), ptr::null_mut());
        let mut buffer = vec![0; bytes];
        match ask(entry.as_mut_ptr(), &mut buffer, &raw mut found) {
            libc::ERANGE if bytes < ENTRY_BYTES_MAX => bytes *= 4,
            0 if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: `found` is not null, so the call has filled the entry.
                let entry = unsafe { entry.assume_init_ref() };
                // SAFETY: the name is a text within `buffer`, which still lives.
                let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_owned();
                return Ok(Some(Identity { user: entry.pw_uid, group: entry.pw_gid, name: Some(name) }));
            }
            libc::ENOENT | libc::ESRCH => return Ok(None),
            code => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let root = Identity::of_user("root", None).expect("a database").expect("root");
        assert_eq!((root.user, root.group), (0, 0));
        assert_eq!(Identity::of_user("0", None).expect("a database"), Some(root));
        assert_eq!(group_number("root").expect("a database"), Some(0));
        assert_eq!(group_number("4711").expect("a number"), Some(4711));
    }

    #[test]
    fn a_number_without_an_entry_takes_a_group() {
        assert_eq!(Identity::of_user("3999999999", None).expect("a database"), None);
        let nobody =
            Identity::of_user("3999999999", Some(7)).expect("a database").expect("a number and a group");
        assert_eq!((nobody.user, nobody.group, nobody.name), (3_999_999_999, 7, None));
    }

    #[test]
    fn who_is_not_there_is_not_found() {
        assert_eq!(Identity::of_user("no-such-user", Some(1)).expect("a database"), None);
        assert_eq!(group_number("no-such-group").expect("a database"), None);
        assert!(Identity::of_user("a\0b", None).is_err());
    }
}
