# SPDX-License-Identifier: Apache-2.0
"""What preflight finds, case by case: python3 ansible/tests/unit/test_judge.py"""

import copy
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))
from plugins.plugin_utils import judge_cluster, judge_host, sizes, tuning  # noqa: E402

GIB = 2**30
SURVEY = {
    "hostname": "a",
    "boot_id": "boot-a",
    "container": "",
    "kernel": "6.1.0-18-amd64",
    "architecture": "x86_64",
    "cpu_features": ["popcnt", "sse4_2"],
    "systemd": 252,
    "control_groups": 2,
    "memory_bytes": 64 * GIB,
    "nodes": [{"node": node, "memory_bytes": 32 * GIB, "huge_pages": {str(2 * 2**20): 0}} for node in (0, 1)],
    "io_uring_disabled": 0,
    "io_uring_fault": "",
    "clock_synchronised": True,
    "clock_lead_seconds": {"least": -0.2, "most": 0.2},
    "address": "10.0.0.1",
    "address_is_own": True,
    "names": {"10.0.0.1": ["10.0.0.1"]},
    "folders": [],
    "devices": [],
    "listeners": {},
}
ASKED = {
    "roles": ["worker"],
    "architectures": ["x86_64"],
    "kernel_min": "5.14",
    "systemd_min": 247,
    "cpu_features": ["sse4_2"],
    "memory_min": ["1GiB", "2GiB"],
    "worker_memory": "auto",
    "executors": "auto",
    "io_uring_tuned": True,
    "huge_pages": [],
    "huge_pages_most": 0.75,
    "folders": [],
    "devices": [],
    "device_min": "10GiB",
    "ports": [],
}
FOLDER = {"existing": "/", "is_folder": True, "free_bytes": 100 * GIB, "mount": "/", "device": "/dev/sda1", "filesystem": "ext4", "read_only": False}
DEVICE = {"path": "/dev/nvme0n1", "there": True, "size_bytes": 100 * GIB, "content": "", "uuid": "", "mounted": [], "holders": []}


def found(survey=None, asked=None):
    """Check and severity of each finding of a host that differs from a good one by these."""
    seen = {**copy.deepcopy(SURVEY), **(survey or {})}
    return [(finding.check, finding.error) for finding in judge_host.judge_host("a", seen, {**ASKED, **(asked or {})})]


def device(**differs):
    wanted = {"device": "/dev/nvme0n1", "mount": "/scratch", "filesystem": "ext4", "format": differs.pop("format", False)}
    return found({"devices": [{**DEVICE, **differs}]}, {"devices": [wanted]})


class Hosts(unittest.TestCase):
    def test_a_good_host_has_nothing_said_of_it(self):
        self.assertEqual(found(), [])

    def test_kernels_are_compared_as_numbers(self):
        self.assertEqual(found({"kernel": "6.10.2"}, {"kernel_min": "6.9"}), [])
        self.assertEqual(found({"kernel": "6.9.2"}, {"kernel_min": "6.10"}), [("kernel", True)])

    def test_what_the_artefacts_do_not_run_on(self):
        self.assertEqual(found({"architecture": "aarch64"}), [("architecture", True)])
        self.assertEqual(found({"cpu_features": []}), [("cpu", True)])
        self.assertEqual(found({"systemd": None}), [("systemd", True)])
        self.assertEqual(found({"systemd": 239}), [("systemd", True)])
        self.assertEqual(found({"control_groups": 1}), [("control-groups", False)])

    def test_io_uring_that_tuning_allows_stands_in_nobodys_way(self):
        refused = {"io_uring_disabled": 2, "io_uring_fault": "EPERM"}
        self.assertEqual(found(refused), [("io_uring", False)])
        self.assertEqual(found(refused, {"io_uring_tuned": False}), [("io_uring", True)])
        self.assertEqual(found({**refused, "container": "docker"}), [("io_uring", True)])
        self.assertEqual(found(refused, {"roles": ["client"]}), [])

    def test_io_uring_that_is_forbidden_to_others_is_told_though_root_has_it(self):
        self.assertEqual(found({"io_uring_disabled": 1}, {"io_uring_tuned": False}), [("io_uring", True)])

    def test_a_filter_that_refuses_io_uring(self):
        self.assertEqual(found({"io_uring_fault": "EPERM"}), [("io_uring", True)])
        self.assertEqual(found({"io_uring_fault": "ENOSYS", "io_uring_disabled": None}), [("io_uring", True)])

    def test_the_largest_of_the_memory_limits_counts(self):
        self.assertEqual(found({"memory_bytes": int(1.5 * GIB)}), [("memory", True)])
        self.assertEqual(found({"memory_bytes": 2 * GIB}), [])

    def test_executors_must_fit_in_memory(self):
        self.assertEqual(found(asked={"worker_memory": "32GiB"}), [])
        self.assertEqual(found(asked={"worker_memory": "33GiB"}), [("memory", True)])
        self.assertEqual(found(asked={"worker_memory": "33GiB", "executors": "1"}), [])

    def test_huge_pages_must_fit_in_each_node(self):
        self.assertEqual(found(asked={"huge_pages": [{"size": "2MiB", "count": 12288}]}), [])
        self.assertEqual(found(asked={"huge_pages": [{"size": "2MiB", "count": 12289}]}), [("huge-pages", True)] * 2)
        self.assertEqual(found(asked={"huge_pages": [{"size": "2MiB", "count": 12289, "node": 1}]}), [("huge-pages", True)])
        self.assertEqual(found(asked={"huge_pages": [{"size": "2MiB", "count": 1, "node": 7}]}), [("huge-pages", True)])
        self.assertEqual(found(asked={"huge_pages": [{"size": "3MiB", "count": 1, "node": 0}]}), [("huge-pages", True)])

    def test_folders(self):
        def folder(**differs):
            wanted = {"path": "/scratch/a", "for": "scratch", "free_min": "10GiB"}
            return found({"folders": [{**FOLDER, **differs}]}, {"folders": [wanted]})

        self.assertEqual(folder(), [])
        self.assertEqual(folder(free_bytes=9 * GIB), [("disk", True)])
        self.assertEqual(folder(read_only=True), [("disk", True)])
        self.assertEqual(folder(is_folder=False), [("disk", True)])
        self.assertEqual(folder(filesystem="tmpfs"), [("disk", False)])

    def test_a_folder_on_a_device_that_is_mounted_later_needs_no_room_yet(self):
        wanted = {"path": "/scratch/a", "for": "scratch", "free_min": "10GiB"}
        mounted = {"device": "/dev/nvme0n1", "mount": "/scratch/", "filesystem": "ext4", "format": True}
        survey = {"folders": [{**FOLDER, "free_bytes": 0}], "devices": [DEVICE]}
        self.assertEqual(found(survey, {"folders": [wanted], "devices": [mounted]}), [])
        elsewhere = {**mounted, "mount": "/scratch/a2"}
        self.assertEqual(found(survey, {"folders": [wanted], "devices": [elsewhere]}), [("disk", True)])

    def test_devices(self):
        self.assertEqual(device(format=True), [])
        self.assertEqual(device(content="ext4"), [])
        self.assertEqual(device(content="ext4", mounted=["/scratch"]), [])
        for wrong in (
            {"there": False},
            {"content": "no block device"},
            {"mounted": ["/elsewhere"], "content": "ext4"},
            {"holders": ["nvme0n1p1"], "content": "gpt", "format": True},
            {"content": "xfs", "format": True},
            {"content": "unknown: it cannot be read", "format": True},
            {"size_bytes": GIB, "format": True},
            {},
        ):
            self.assertEqual(device(**wrong), [("device", True)], wrong)

    def test_ports_that_are_ours_or_free(self):
        ports = [{"port": 7400, "for": "manager", "variable": "firesteel_manager_port"}]
        self.assertEqual(found({"listeners": {"7400": "firesteel"}}, {"ports": ports}), [])
        self.assertEqual(found({"listeners": {"7400": "nginx"}}, {"ports": ports}), [("port", True)])
        self.assertEqual(found({"listeners": {"7400": "?"}}, {"ports": ports}), [("port", True)])

    def test_a_container_is_not_asked_for_a_clock_of_its_own(self):
        self.assertEqual(found({"clock_synchronised": False}), [("clock", True)])
        self.assertEqual(found({"clock_synchronised": False, "container": "lxc"}), [("clock", False)])
        self.assertEqual(found({"clock_synchronised": None}), [("clock", False)])

    def test_addresses_and_names(self):
        self.assertEqual(found({"address_is_own": False}), [("address", True)])
        self.assertEqual(found({"names": {"10.0.0.1": ["10.0.0.1"], "b": []}}), [("name", True)])


class Clusters(unittest.TestCase):
    def cluster(self, differs, managers=("a",), workers=("a", "b")):
        """What is found of two hosts of which the second differs by these."""
        other = {**copy.deepcopy(SURVEY), "hostname": "b", "boot_id": "boot-b", "address": "10.0.0.2", "names": {"10.0.0.2": ["10.0.0.2"]}, **differs}
        groups = {"firesteel_managers": list(managers), "firesteel_workers": list(workers)}
        settings = {"manager_counts": [1, 3, 5], "clock_skew_most_seconds": 1.0}
        return [finding.check for finding in judge_cluster.judge_cluster({"a": SURVEY, "b": other}, groups, settings)]

    def test_two_good_hosts(self):
        self.assertEqual(self.cluster({}), [])

    def test_how_many_there_must_be(self):
        self.assertEqual(self.cluster({}, managers=()), ["managers"])
        self.assertEqual(self.cluster({}, managers=("a", "b")), ["managers"])
        self.assertEqual(self.cluster({}, workers=()), ["workers"])

    def test_what_no_two_hosts_have_in_common(self):
        self.assertEqual(self.cluster({"hostname": "a"}), ["host-name"])
        self.assertEqual(self.cluster({"boot_id": "boot-a"}), ["same-host"])
        self.assertEqual(self.cluster({"names": {"10.0.0.2": ["10.0.0.1"]}}), ["address"])

    def test_only_skew_that_is_certain_is_told(self):
        self.assertEqual(self.cluster({"clock_lead_seconds": {"least": 0.8, "most": 5.0}}), [])
        self.assertEqual(self.cluster({"clock_lead_seconds": {"least": 1.3, "most": 1.4}}), ["clock-skew"])
        self.assertEqual(self.cluster({"clock_lead_seconds": {"least": -9.0, "most": -1.3}}), ["clock-skew"])

    def test_several_hosts_do_not_go_by_loopback(self):
        self.assertEqual(self.cluster({"address": "b", "names": {"b": ["127.0.1.1"]}}), ["address"])


class Values(unittest.TestCase):
    def test_sizes(self):
        self.assertEqual(sizes.parse("512MiB"), 512 * 2**20)
        self.assertEqual(sizes.parse("1.5GiB"), 1536 * 2**20)
        self.assertEqual(sizes.parse(4096), 4096)
        for wrong in ("", "4 GB", "-1GiB", "lots"):
            with self.assertRaises(ValueError):
                sizes.parse(wrong)
        self.assertEqual([sizes.show(count) for count in (2**30, 1536 * 2**20, 12)], ["1GiB", "1.5GiB", "12 bytes"])

    def test_huge_pages_of_a_node_add_up(self):
        values = tuning.huge_page_values([{"size": "2MiB", "count": 8}, {"size": "2MiB", "count": 4, "node": 1}], SURVEY["nodes"])
        self.assertEqual([value["value"] for value in values], ["8", "12"])
        self.assertTrue(values[1]["path"].endswith("node1/hugepages/hugepages-2048kB/nr_hugepages"))

    def test_a_dot_in_the_name_of_an_interface(self):
        self.assertEqual(tuning.sysctl_path("net.ipv4.conf.eth0/7.rp_filter"), "/proc/sys/net/ipv4/conf/eth0.7/rp_filter")


if __name__ == "__main__":
    unittest.main()
