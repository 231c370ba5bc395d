//! Who else may write a file that the daemon trusts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The group under which packages run the daemon.
const OWN_GROUP: &str = "sidecarbon";

/// Who beside its owner may write a file, in words for a warning. Not root's group, nor
/// the daemon's own.
pub fn other_writers(metadata: &fs::Metadata) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let own_group = rustix::process::getegid().as_raw();
    writers(metadata.mode(), metadata.gid(), own_group, &groups)
}

/// Whether every user may write a file.
pub fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o002 != 0)
}

fn writers(mode: u32, group: u32, own_group: u32, groups: &str) -> Option<String> {
    if mode & 0o002 != 0 {
        return Some("every user of this host".to_owned());
    }
    let name = group_name(group, groups);
    let is_trusted = group == 0 || group == own_group || name == Some(OWN_GROUP);
    if mode & 0o020 == 0 || is_trusted {
        return None;
    }
    let name = name.map_or_else(|| group.to_string(), str::to_owned);
    Some(format!("every user of the group {name}"))
}

/// The name of a group in the text of `/etc/group` (group(5)).
fn group_name(group: u32, groups: &str) -> Option<&str> {
    let number = group.to_string();
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write() {
        let groups = "root:x:0:\nstaff:x:50:me,you\nsidecarbon:x:990:\n";
        for (mode, group, writers_are) in [
            (0o640, 50, None),
            (0o600, 50, None),
            (0o604, 50, None),
            (0o660, 50, Some("every user of the group staff")),
            (0o620, 51, Some("every user of the group 51")),
            (0o660, 0, None),
            (0o660, 7, None),
            (0o660, 990, None),
            (0o622, 0, Some("every user of this host")),
            (0o666, 50, Some("every user of this host")),
            (0o602, 50, Some("every user of this host")),
        ] {
            let found = writers(mode, group, 7, groups);
            assert_eq!(found.as_deref(), writers_are, "{mode:o} {group}");
        }
    }
}
