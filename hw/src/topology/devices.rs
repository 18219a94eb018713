//! Devices: of this machine from /sys, which tells speed and size; of another one from its hwloc tree.

use std::fs;
use std::path::{Path, PathBuf};

use hwlocality::Topology as Tree;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::{OSDeviceType, ObjectType};

use super::{Core, Device, DeviceKind};

/// The kernel counts disks in sectors of this size, whatever the device's own is.
const SECTOR_BYTES: u64 = 512;

/// The devices below a mounted sysfs. Only those with hardware behind them: no loop, RAM, bridge or virtual ones.
pub(super) fn from_sys(sys: &Path, nodes: &[u32]) -> Vec<Device> {
    let mut devices = Vec::new();
    devices.extend(entries(&sys.join("class/net")).iter().filter_map(|dir| nic(dir, nodes)));
    devices.extend(entries(&sys.join("class/infiniband")).iter().filter_map(|dir| rdma(dir, nodes)));
    devices.extend(entries(&sys.join("block")).iter().filter_map(|dir| disk(dir, nodes)));
    sorted(devices)
}

fn sorted(mut devices: Vec<Device>) -> Vec<Device> {
    devices.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    devices
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    // A class that is not there is a kind of device that the machine does not have.
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn nic(dir: &Path, nodes: &[u32]) -> Option<Device> {
    dir.join("device").exists().then_some(())?;
    let up = text(&dir.join("operstate")).map(|state| state == "up");
    Some(Device {
        speed_mbit: number(&dir.join("speed")),
        link_up: up,
        ..device(DeviceKind::Nic, dir, nodes)?
    })
}

fn rdma(dir: &Path, nodes: &[u32]) -> Option<Device> {
    let port = entries(&dir.join("ports")).into_iter().min();
    let of_port = |name| port.as_ref().and_then(|port| text(&port.join(name)));
    // `100 Gb/sec (4X EDR)` and `4: ACTIVE`
    let speed_gbit: Option<f64> = of_port("rate").and_then(|rate| rate.split(' ').next()?.parse().ok());
    let up = of_port("state").map(|state| state.contains("ACTIVE"));
    let speed_mbit = speed_gbit.map(|gbit| (gbit * 1000.0) as u64);
    Some(Device { speed_mbit, link_up: up, ..device(DeviceKind::Rdma, dir, nodes)? })
}

fn disk(dir: &Path, nodes: &[u32]) -> Option<Device> {
    dir.join("device").exists().then_some(())?;
    let sectors = number(&dir.join("size")).filter(|&sectors| sectors > 0)?;
    let kind = disk_kind(&name(dir)?);
    Some(Device { size_bytes: Some(sectors * SECTOR_BYTES), ..device(kind, dir, nodes)? })
}

fn disk_kind(name: &str) -> DeviceKind {
    if name.starts_with("nvme") { DeviceKind::Nvme } else { DeviceKind::Disk }
}

fn device(kind: DeviceKind, dir: &Path, nodes: &[u32]) -> Option<Device> {
    let numa_node = numa_node(&dir.join("device"), nodes);
    Some(Device { kind, name: name(dir)?, numa_node, speed_mbit: None, size_bytes: None, link_up: None })
}

/// The node is told by the PCI function, which may be some levels above the device itself.
fn numa_node(device: &Path, nodes: &[u32]) -> Option<u32> {
    if let [only] = nodes {
        return Some(*only);
    }
    let real = device.canonicalize().ok()?;
    let told = real.ancestors().find_map(|dir| text(&dir.join("numa_node")))?;
    told.parse().ok().filter(|node| nodes.contains(node))
}

fn name(dir: &Path) -> Option<String> {
    Some(dir.file_name()?.to_string_lossy().into_owned())
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Unknown speeds are -1, or an error when the link is down.
fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// The devices of an imported tree: names, kinds and places, for speed is not in it.
pub(super) fn from_hwloc(tree: &Tree, cores: &[Core]) -> Vec<Device> {
    sorted(
        tree.objects_with_type(ObjectType::OSDevice).filter_map(|object| os_device(object, cores)).collect(),
    )
}

fn os_device(object: &TopologyObject, cores: &[Core]) -> Option<Device> {
    let name = object.name()?.to_string_lossy().into_owned();
    let kind = match object.attributes()? {
        ObjectAttributes::OSDevice(device) => match device.device_type() {
            OSDeviceType::Network => DeviceKind::Nic,
            OSDeviceType::OpenFabrics => DeviceKind::Rdma,
            OSDeviceType::Storage => disk_kind(&name),
            _ => return None,
        },
        _ => return None,
    };
    Some(Device {
        kind,
        name,
        numa_node: node_of(object, cores),
        speed_mbit: None,
        size_bytes: size(object),
        link_up: None,
    })
}

/// hwloc writes sizes in KiB.
fn size(object: &TopologyObject) -> Option<u64> {
    let kib: u64 = object.info("Size")?.to_string_lossy().parse().ok()?;
    Some(kib << 10)
}

/// The node of the cores near the device, when they are all of one.
fn node_of(object: &TopologyObject, cores: &[Core]) -> Option<u32> {
    let near = object.first_non_io_ancestor()?.cpuset()?;
    let is_near = |core: &&Core| core.cpus.iter().any(|&cpu| near.is_set(cpu as usize));
    let mut nodes = cores.iter().filter(is_near).map(|core| core.numa_node);
    let first = nodes.next()?;
    nodes.all(|node| node == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn devices_of_sys_with_speed_size_and_node() {
        let sys = tempfile::tempdir().unwrap();
        let at = |path: &str| sys.path().join(path);
        // A NIC and a disk whose PCI functions tell the node, as real ones are laid out: the class entry links to it.
        write(&at("devices/pci0/0000:81:00.0/numa_node"), "1\n");
        write(&at("class/net/eth1/speed"), "100000\n");
        write(&at("class/net/eth1/operstate"), "up\n");
        std::os::unix::fs::symlink(at("devices/pci0/0000:81:00.0"), at("class/net/eth1/device")).unwrap();
        write(&at("class/net/lo/speed"), "-1\n");
        write(&at("devices/pci0/0000:02:00.0/numa_node"), "0\n");
        write(&at("devices/pci0/0000:02:00.0/nvme/nvme0/model"), "x\n");
        write(&at("block/nvme0n1/size"), "2097152\n");
        std::os::unix::fs::symlink(at("devices/pci0/0000:02:00.0/nvme/nvme0"), at("block/nvme0n1/device"))
            .unwrap();
        write(&at("block/loop0/size"), "99\n");
        write(&at("class/infiniband/mlx5_0/ports/1/rate"), "100 Gb/sec (4X EDR)\n");
        write(&at("class/infiniband/mlx5_0/ports/1/state"), "4: ACTIVE\n");
        std::os::unix::fs::symlink(at("devices/pci0/0000:81:00.0"), at("class/infiniband/mlx5_0/device"))
            .unwrap();

        let found: Vec<_> = from_sys(sys.path(), &[0, 1])
            .into_iter()
            .map(|d| (d.name, d.kind, d.numa_node, d.speed_mbit, d.size_bytes, d.link_up))
            .collect();
        assert_eq!(
            found,
            [
                ("eth1".into(), DeviceKind::Nic, Some(1), Some(100_000), None, Some(true)),
                ("mlx5_0".into(), DeviceKind::Rdma, Some(1), Some(100_000), None, Some(true)),
                ("nvme0n1".into(), DeviceKind::Nvme, Some(0), None, Some(1 << 30), None),
            ]
        );
    }

    #[test]
    fn a_node_the_kernel_does_not_know_is_none() {
        let sys = tempfile::tempdir().unwrap();
        write(&sys.path().join("class/net/eth0/device/numa_node"), "-1\n");
        assert_eq!(from_sys(sys.path(), &[0, 1])[0].numa_node, None);
        assert_eq!(from_sys(sys.path(), &[0])[0].numa_node, Some(0), "one node: nothing else can be near");
    }
}
