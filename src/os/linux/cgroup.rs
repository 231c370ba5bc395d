//! The memory limit of a control group, cgroups(7).

use std::fs;
use std::path::Path;

use crate::os::MemoryLimit;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The least limit of this process's group and of those that it is in.
pub fn memory_limit() -> Option<MemoryLimit> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_of(&groups, Path::new(MOUNT))
}

/// `groups` is `/proc/self/cgroup`: `4:memory:/a/b` in version 1, `0::/a/b` in version 2. In a
/// container the path may be that of the host, which cannot be seen: then the mount's own.
fn limit_of(groups: &str, mount: &Path) -> Option<MemoryLimit> {
    let groups = groups.lines().filter_map(|group| {
        let (_, group) = group.split_once(':')?;
        group.split_once(':')
    });
    let limits = groups.filter_map(|(controllers, path)| {
        if controllers.is_empty() {
            let limit = least(mount, path, "memory.max")?;
            Some((limit, true))
        } else if controllers.split(',').any(|name| name == "memory") {
            let limit = least(&mount.join("memory"), path, "memory.limit_in_bytes")?;
            Some((limit, false))
        } else {
            None
        }
    });
    let (bytes, counts_sockets) = limits.min()?;
    Some(MemoryLimit {
        bytes,
        counts_sockets,
    })
}

fn least(mount: &Path, group: &str, file: &str) -> Option<usize> {
    let group = group.trim_start_matches('/');
    let groups = Path::new(group).ancestors();
    let limits = groups.filter_map(|group| {
        let limit = fs::read_to_string(mount.join(group).join(file)).ok()?;
        // "max" is none. In version 1 that is a number which no machine has.
        let limit = limit.trim().parse::<usize>().ok()?;
        (limit < usize::MAX >> 4).then_some(limit)
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/a/memory.limit_in_bytes", "50000000\n");
        write("memory/a/b/memory.limit_in_bytes", "60000000\n");
        write("c/memory.max", "70000000\n");
        write("c/d/memory.max", "max\n");
        for (groups, bytes, counts_sockets) in [
            ("4:cpu:/x\n3:memory:/a/b\n0::/\n", Some(50_000_000), false),
            ("3:cpu,memory:/a\n", Some(50_000_000), false),
            ("3:memory:/other\n", None, false),
            ("0::/c/d\n", Some(70_000_000), true),
            ("0::/\n", None, true),
            ("", None, false),
        ] {
            let expected = bytes.map(|bytes| MemoryLimit {
                bytes,
                counts_sockets,
            });
            assert_eq!(limit_of(groups, mount.path()), expected, "{groups}");
        }
    }
}
