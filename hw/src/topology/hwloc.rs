//! From hwloc's object tree to plain data.

use std::path::Path;

use hwlocality::Topology as Tree;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};

use super::{Core, HugePages, L3Group, NumaNode, Origin, Package, Topology, TopologyError, devices};

/// Pages of this size or less are the usual ones.
const USUAL_PAGE_BYTES_MAX: u64 = 64 << 10;

pub(super) fn discover() -> Result<Topology, TopologyError> {
    let fault = |fault: &dyn std::fmt::Display| TopologyError::Discover { fault: fault.to_string() };
    // Other threads may run already, so hwloc must not move this one around to look at each CPU from inside.
    let flags = BuildFlags::ASSUME_THIS_SYSTEM
        | BuildFlags::RESTRICT_CPU_TO_THIS_PROCESS
        | BuildFlags::DONT_CHANGE_BINDING;
    let builder = TopologyBuilder::new().with_flags(flags).map_err(|e| fault(&e))?;
    let tree = builder.build().map_err(|e| fault(&e))?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut topology = convert(&tree, host, Origin::Machine)?;
    trust_meminfo_of_a_single_node(&mut topology);
    Ok(topology)
}

pub(super) fn from_xml(path: &Path) -> Result<Topology, TopologyError> {
    let unreadable =
        |e: std::io::Error| TopologyError::Unreadable { path: path.to_owned(), fault: e.to_string() };
    let no_xml = || TopologyError::NoXml { path: path.to_owned() };
    // hwloc tells only "invalid" for whatever is wrong: read here, a file that is not there is told from a wrong one.
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| no_xml())?;
    let builder = TopologyBuilder::new()
        .with_io_type_filter(TypeFilter::KeepImportant)
        .map_err(|_| no_xml())?
        .from_xml(&text)
        .map_err(|_| no_xml())?;
    let tree = builder.build().map_err(|_| no_xml())?;
    let name = root_info(&tree, "HostName").unwrap_or_else(|| file_stem(path));
    let mut topology = convert(&tree, name, Origin::XmlFile(path.display().to_string()))?;
    topology.devices = devices::from_hwloc(&tree, &topology.cores);
    Ok(topology)
}

pub(super) fn from_synthetic(description: &str) -> Result<Topology, TopologyError> {
    let fault = || TopologyError::NoSynthetic { description: description.to_owned() };
    let builder = TopologyBuilder::new().from_synthetic(description).map_err(|_| fault())?;
    let tree = builder.build().map_err(|_| fault())?;
    convert(&tree, "synthetic".to_owned(), Origin::Synthetic(description.to_owned()))
}

fn file_stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "machine".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn root_info(tree: &Tree, key: &str) -> Option<String> {
    tree.root_object().info(key).map(|value| value.to_string_lossy().into_owned())
}

/// Some machines get memory while they run, which the node's own count lags behind. With one node there is no doubt
/// where it is.
fn trust_meminfo_of_a_single_node(topology: &mut Topology) {
    if let [node] = topology.numa_nodes.as_mut_slice() {
        node.memory_bytes = node.memory_bytes.max(crate::procfs::memory_total_bytes().unwrap_or(0));
    }
}

fn convert(tree: &Tree, machine: String, origin: Origin) -> Result<Topology, TopologyError> {
    let incomplete = |what| TopologyError::Incomplete { of: of(&origin), what };
    let numa_nodes = numa_nodes(tree);
    if numa_nodes.is_empty() {
        return Err(incomplete("NUMA node"));
    }
    let cores = cores(tree);
    if cores.is_empty() {
        return Err(incomplete("core"));
    }
    Ok(Topology {
        machine,
        packages: packages(tree),
        numa_nodes,
        l3_groups: l3_groups(tree),
        cores,
        devices: Vec::new(),
        limits: super::Limits::default(),
        origin,
    })
}

fn of(origin: &Origin) -> String {
    match origin {
        Origin::Machine => "this machine".to_owned(),
        Origin::XmlFile(path) => path.clone(),
        Origin::Synthetic(description) => format!("'{description}'"),
    }
}

fn packages(tree: &Tree) -> Vec<Package> {
    let model =
        |object: &TopologyObject| object.info("CPUModel").map(|m| m.to_string_lossy().trim().to_owned());
    tree.objects_with_type(ObjectType::Package)
        .map(|object| Package { index: logical(object), model: model(object) })
        .collect()
}

fn numa_nodes(tree: &Tree) -> Vec<NumaNode> {
    let mut nodes: Vec<_> = tree.objects_with_type(ObjectType::NUMANode).map(numa_node).collect();
    nodes.sort_by_key(|node| node.index);
    nodes
}

fn numa_node(object: &TopologyObject) -> NumaNode {
    let (mut memory_bytes, mut huge_pages) = (0, Vec::new());
    if let Some(ObjectAttributes::NUMANode(node)) = object.attributes() {
        memory_bytes = node.local_memory().map_or(0, u64::from);
        let huge = node.page_types().iter().filter(|page| u64::from(page.size()) > USUAL_PAGE_BYTES_MAX);
        huge_pages =
            huge.map(|page| HugePages { page_bytes: page.size().into(), reserved: page.count() }).collect();
    }
    NumaNode {
        index: os_index(object),
        package: ancestor(object, ObjectType::Package),
        memory_bytes,
        huge_pages,
    }
}

fn l3_groups(tree: &Tree) -> Vec<L3Group> {
    tree.objects_with_type(ObjectType::L3Cache)
        .map(|object| L3Group { index: logical(object), cache_bytes: cache_bytes(object) })
        .collect()
}

fn cache_bytes(object: &TopologyObject) -> u64 {
    match object.attributes() {
        Some(ObjectAttributes::Cache(cache)) => cache.size().map_or(0, u64::from),
        _ => 0,
    }
}

/// Cores of the machine; where it tells of none (some virtual machines), each hardware thread counts as one.
fn cores(tree: &Tree) -> Vec<Core> {
    let mut objects: Vec<_> = tree.objects_with_type(ObjectType::Core).collect();
    if objects.is_empty() {
        objects = tree.objects_with_type(ObjectType::PU).collect();
    }
    let nodes: Vec<_> = tree.objects_with_type(ObjectType::NUMANode).collect();
    let cores = objects.iter().map(|object| core(object, &nodes));
    cores.filter(|core| !core.cpus.is_empty()).collect()
}

fn core(object: &TopologyObject, nodes: &[&TopologyObject]) -> Core {
    Core {
        index: logical(object),
        package: ancestor(object, ObjectType::Package),
        numa_node: nearest_node(object, nodes),
        l3: ancestor(object, ObjectType::L3Cache),
        cpus: cpus(object),
    }
}

fn cpus(object: &TopologyObject) -> Vec<u32> {
    let set = object.cpuset();
    let bits = set.iter().flat_map(|set| set.iter_set());
    bits.filter_map(|bit| u32::try_from(usize::from(bit)).ok()).collect()
}

/// Of the nodes that are local to the object the one with the fewest cores: slow memory attached to a whole machine is
/// local to all its cores, and nearest to none.
fn nearest_node(object: &TopologyObject, nodes: &[&TopologyObject]) -> u32 {
    let local = nodes.iter().filter(|node| is_local(object, node));
    let nearest = local.min_by_key(|node| (cpus(node).len(), os_index(node)));
    nearest.or(nodes.first()).map_or(0, |node| os_index(node))
}

fn is_local(object: &TopologyObject, node: &TopologyObject) -> bool {
    match (object.cpuset(), node.cpuset()) {
        (Some(inner), Some(outer)) => outer.includes(inner),
        _ => false,
    }
}

fn ancestor(object: &TopologyObject, kind: ObjectType) -> Option<u32> {
    object.ancestors().find(|above| above.object_type() == kind).map(logical)
}

fn logical(object: &TopologyObject) -> u32 {
    u32::try_from(object.logical_index()).expect("a machine has fewer than 2^32 objects")
}

fn os_index(object: &TopologyObject) -> u32 {
    object.os_index().and_then(|index| u32::try_from(index).ok()).unwrap_or_else(|| logical(object))
}
