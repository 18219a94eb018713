"""The checks of numa_checks.sh, inside of the emulated machine. /share holds the program, TPC-H data and this file. What is expected comes
from the kernel's own files and never from the program under test."""

import glob
import json
import os
import re
import subprocess
import sys
import time

FIRESTEEL = "/tmp/firesteel"
MANAGER = "127.0.0.1:7400"
START_SECONDS_MAX = 240
QUERY_SECONDS_MAX = 240
EXECUTOR_BYTES = 256 << 20
# Of an executor's memory, on its node. Without cgroups only core threads are bound to it: what other threads take for a query, such as
# blocks that come over connections, lies where the core is that is kept for them.
OWN_NODE_PERCENT_MIN = 90
UNBOUND_PERCENT_MIN = 60
# Less than this says nothing of where a query's memory lies: 8 MiB.
QUERY_PAGES_MIN = 2048
# Its groups are held in memory while it runs: four for each line of TPC-H at scale 0.01.
QUERY = """create external table lineitem stored as parquet location '/share/tpch/lineitem/';
select count(*) from (select l_orderkey, l_linenumber, copy, max(l_comment) from lineitem, (values (0), (1), (2), (3)) copies(copy) group by 1, 2, 3)"""
ROWS = str(4 * 60175)

passed, failed, skipped = [], [], []


def check(name, faults):
    """A check is right when it found no fault."""
    (failed if faults else passed).append(name)
    print(f"{'FAILED' if faults else 'ok    '} {name}", flush=True)
    for fault in faults:
        print(f"       {fault}")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def cpus_of(text):
    """The numbers of a list such as 0-3,8."""
    cpus = set()
    for part in text.strip().split(","):
        if part:
            low, _, high = part.partition("-")
            cpus.update(range(int(low), int(high or low) + 1))
    return cpus


def nodes_of_kernel():
    """For each NUMA node its processors and its memory in bytes."""
    nodes = {}
    for folder in glob.glob("/sys/devices/system/node/node[0-9]*"):
        kib = int(re.search(r"MemTotal:\s+(\d+) kB", read(f"{folder}/meminfo")).group(1))
        nodes[int(folder.rsplit("node", 1)[1])] = (cpus_of(read(f"{folder}/cpulist")), kib << 10)
    return nodes


def firesteel(*words, seconds_max=START_SECONDS_MAX):
    return subprocess.run([FIRESTEEL, "--insecure", "-q", *words], capture_output=True, text=True, timeout=seconds_max, check=False)


def start(name, *words, group=None):
    """Starts it, in a cgroup of its own with that name where one is given, as a unit has."""

    def enter():
        with open(f"/sys/fs/cgroup/{group}/cgroup.procs", "w", encoding="utf-8") as processes:
            processes.write("0")

    if group:
        os.mkdir(f"/sys/fs/cgroup/{group}")
    with open(f"/tmp/{name}.log", "w", encoding="utf-8") as log:
        return subprocess.Popen([FIRESTEEL, "--insecure", *words], stdout=log, stderr=log, preexec_fn=enter if group else None)


def executors_of(worker):
    """The processes that the worker started as executors."""
    found = []
    for child in children_of(worker):
        if b"\0executor\0" in open(f"/proc/{child}/cmdline", "rb").read() + b"\0":
            found.append(int(child))
    return sorted(set(found))


def children_of(worker):
    """Whichever thread started them."""
    return [child for task in glob.glob(f"/proc/{worker}/task/*/children") for child in read(task).split()]


def registered():
    """How many executors the manager lists."""
    listed = firesteel("nodes", "--manager", MANAGER, "--json")
    return sum(len(node["executors"]) for node in json.loads(listed.stdout)["nodes"]) if listed.returncode == 0 else 0


def with_core_threads(worker):
    """Executors are listed before they are ready, and one that takes too long is started again."""
    return [executor for executor in executors_of(worker) if list(core_threads(executor))]


def wait_for_executors(worker, count):
    """Until there are as many as there should be; whether there are more shows afterwards."""
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end and worker.poll() is None:
        try:
            if registered() >= count and len(with_core_threads(worker.pid)) >= count:
                break
        except FileNotFoundError:
            # One ended while it was looked at.
            pass
        time.sleep(2)
    return executors_of(worker.pid)


def core_threads(executor):
    """Name, processors that it may use and the one that it ran on last, of each core thread."""
    for task in glob.glob(f"/proc/{executor}/task/*"):
        name = read(f"{task}/comm").strip()
        if name.startswith("core-"):
            allowed = cpus_of(re.search(r"Cpus_allowed_list:\s+(\S+)", read(f"{task}/status")).group(1))
            last = int(read(f"{task}/stat").rsplit(") ", 1)[1].split()[36])
            yield name, allowed, last


def home_of(executor, nodes):
    """The node whose processors the executor's core threads may use, or none where these are of several."""
    used = set().union(*(allowed for _, allowed, _ in core_threads(executor)))
    homes = [node for node, (cpus, _) in nodes.items() if used and used <= cpus]
    return homes[0] if homes else None


def own_pages(executor):
    """Pages of the executor's own memory on each node: not of files, which lie where they were first read."""
    pages = {}
    for line in read(f"/proc/{executor}/numa_maps").splitlines():
        if "anon=" in line and "file=" not in line:
            for node, count in re.findall(r" N(\d+)=(\d+)", line):
                pages[int(node)] = pages.get(int(node), 0) + int(count)
    return pages


def check_topology(nodes):
    told = firesteel("topology", "--json")
    if told.returncode != 0:
        check("topology shows the nodes", [f"it ended with {told.returncode}: {told.stderr}"])
        return
    topology = json.loads(told.stdout)
    cpus = {}
    for core in topology["cores"]:
        cpus.setdefault(core["numa_node"], set()).update(core["cpus"])
    faults = [f"node {node}: it shows processors {cpus.get(node)}, the kernel {wanted}" for node, (wanted, _) in nodes.items() if cpus.get(node) != wanted]
    memory = {node["index"]: node["memory_bytes"] for node in topology["numa_nodes"]}
    faults += [f"node {node}: it shows {memory.get(node)} bytes, the kernel {wanted}" for node, (_, wanted) in nodes.items() if memory.get(node) != wanted]
    if set(memory) != set(nodes):
        faults.append(f"it shows the nodes {sorted(memory)}, the kernel {sorted(nodes)}")
    check("topology shows the nodes", faults)


def check_layout(executors, nodes):
    homes = [home_of(executor, nodes) for executor in executors]
    faults = [] if sorted(homes, key=str) == sorted(nodes) else [f"executors {executors} have their core threads on nodes {homes}, wanted {sorted(nodes)}"]
    check("there is one executor on each node", faults)


def check_pinning(executors):
    faults, taken = [], {}
    for executor in executors:
        for name, allowed, last in core_threads(executor):
            if len(allowed) != 1:
                faults.append(f"{name} of {executor} may run on processors {sorted(allowed)}: it is not pinned to one")
            if last not in allowed:
                faults.append(f"{name} of {executor} ran on processor {last}, and may run on {sorted(allowed)}")
            for cpu in allowed:
                other = taken.setdefault(cpu, (executor, name))
                if other != (executor, name):
                    faults.append(f"{name} of {executor} has processor {cpu}, as {other} has")
    check("every core thread runs where it is pinned, alone", faults)


def percent_at(home, pages):
    return 100 * pages.get(home, 0) / max(sum(pages.values()), 1)


def check_query_memory(executors, nodes, before, most, percent_min):
    """Where that lies which a query took, by what each executor had before and the most that it was seen to have."""
    faults = []
    for executor in executors:
        home = home_of(executor, nodes)
        taken = {node: max(count - before[executor].get(node, 0), 0) for node, count in most[executor].items()}
        print(f"       executor {executor} of node {home}: of {sum(taken.values())} pages that the query took {percent_at(home, taken):.1f} % lie there")
        if sum(taken.values()) < QUERY_PAGES_MIN:
            faults.append(f"executor {executor} took {taken} pages: too few to tell where they lie")
        elif percent_at(home, taken) < percent_min:
            faults.append(f"executor {executor} of node {home} took {taken} pages: less than {percent_min} % on its node")
    check(f"of the memory that a query takes {percent_min} % lie on its executor's node", faults)


def check_all_memory(executors, nodes):
    """With all that was taken before the threads were bound, and by threads that are not: only a cgroup keeps that on the node."""
    faults = []
    for executor in executors:
        home, pages = home_of(executor, nodes), own_pages(executor)
        if percent_at(home, pages) < OWN_NODE_PERCENT_MIN:
            faults.append(f"executor {executor} of node {home} has {pages} pages: less than {OWN_NODE_PERCENT_MIN} % on its node")
    check("all of an executor's memory lies on its node", faults)


def cores_of(executors):
    """The processors to which their core threads are pinned."""
    return set().union(*(allowed for executor in executors for _, allowed, _ in core_threads(executor)))


def cgroup_faults(executor, executors, worker, nodes):
    own, home = read(f"/proc/{executor}/cgroup").strip(), home_of(executor, nodes)
    if own == read(f"/proc/{worker}/cgroup").strip():
        return [f"executor {executor} is in the worker's cgroup {own}"]
    if home is None:
        return [f"executor {executor} in {own} is on no node"]
    folder, (_, memory) = "/sys/fs/cgroup" + own.split("::", 1)[1], nodes[home]
    try:
        allowed, mems, limit = (read(f"{folder}/{file}").strip() for file in ("cpuset.cpus", "cpuset.mems", "memory.max"))
    except OSError as fault:
        return [f"executor {executor} in {own}: {fault}"]
    faults = []
    # Besides its cores it may use those that are kept for the control plane, wherever they are, and no other executor's.
    others = cores_of([other for other in executors if other != executor])
    if not cores_of([executor]) <= cpus_of(allowed) or cpus_of(allowed) & others:
        faults.append(f"{folder}: cpuset.cpus is '{allowed}', its core threads have {sorted(cores_of([executor]))}, others' {sorted(others)}")
    if cpus_of(mems) != {home}:
        faults.append(f"{folder}: cpuset.mems is '{mems}', wanted {home}")
    if not limit.isdigit() or not EXECUTOR_BYTES <= int(limit) <= memory:
        faults.append(f"{folder}: memory.max is '{limit}', wanted from {EXECUTOR_BYTES} to {memory}")
    return faults


def check_cgroups(executors, worker, nodes):
    faults = [fault for executor in executors for fault in cgroup_faults(executor, executors, worker, nodes)]
    groups = {read(f"/proc/{executor}/cgroup") for executor in executors}
    if len(groups) != len(executors):
        faults.append(f"{len(executors)} executors share {len(groups)} cgroups")
    check("each executor has a cgroup with cores, memory node and limit of its own", faults)


def check_query(executors):
    """Returns for each executor the pages that it had when it had the most."""
    most = {executor: {} for executor in executors}
    words = [FIRESTEEL, "--insecure", "-q", "sql", "--manager", MANAGER, "--format", "csv", "-c", QUERY]
    end = time.monotonic() + QUERY_SECONDS_MAX
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as query:
        while query.poll() is None and time.monotonic() < end:
            for executor in executors:
                most[executor] = max(most[executor], own_pages(executor), key=lambda pages: sum(pages.values()))
            time.sleep(0.5)
        query.kill()
        said = query.communicate()[0]
    right = query.returncode == 0 and said.split()[-1:] == [ROWS]
    check("a query on the cluster gives the right answer", [] if right else [f"exit code {query.returncode}, it said {said!r}, wanted {ROWS}"])
    return most


def stop(process):
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


def check_executors(worker, nodes, with_cgroups):
    executors = wait_for_executors(worker, len(nodes))
    check_layout(executors, nodes)
    before = {executor: own_pages(executor) for executor in executors}
    most = check_query(executors)
    check_pinning(executors)
    check_query_memory(executors, nodes, before, most, OWN_NODE_PERCENT_MIN if with_cgroups else UNBOUND_PERCENT_MIN)
    if with_cgroups:
        check_all_memory(executors, nodes)
        check_cgroups(executors, worker.pid, nodes)
    else:
        skipped.append("cgroups")
        print("skipped executors' cgroups, and what they keep on the node, as it was told to")
    now = executors_of(worker.pid)
    check("the executors are the same all the while", [] if now == executors else [f"there were {executors}, there are {now}"])


def check_cluster(nodes, with_cgroups):
    manager = start("manager", "manager", "--bind", MANAGER, "--state", "/tmp/state")
    worker = start("worker", "worker", "--manager", MANAGER, "--bind", "127.0.0.1:7410", "--memory", f"{EXECUTOR_BYTES >> 20}MiB", "--scratch", "/tmp/scratch", group="worker-unit" if with_cgroups else None)
    try:
        check_executors(worker, nodes, with_cgroups)
    except OSError as fault:
        # Files of a process that is gone.
        check("executors live on", [str(fault)])
    finally:
        stop(worker)
        stop(manager)
    if failed:
        print("The worker's log ends with:\n" + "".join(read("/tmp/worker.log").splitlines(True)[-30:]))


def main():
    nodes = nodes_of_kernel()
    # A copy in memory: read through the emulated disk, every start would take long.
    subprocess.run(["cp", "/share/firesteel", FIRESTEEL], check=True)
    check_topology(nodes)
    check_cluster(nodes, "--without-cgroups" not in sys.argv)
    print(f"{len(passed)} passed, {len(failed)} failed" + (f", {len(skipped)} skipped" if skipped else ""))
    sys.exit(1 if failed else 0)


main()
