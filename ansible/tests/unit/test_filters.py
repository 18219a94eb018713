"""The filters, without hosts: python3 -m unittest discover ansible/tests/unit"""

import importlib.util
import pathlib
import sys
import unittest

from ansible.errors import AnsibleFilterError

FILTERS = pathlib.Path(__file__).resolve().parents[2] / "plugins" / "filter"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FILTERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cluster, acceptance = load("cluster"), load("acceptance")


def line(version):
    return f"{'a' * 64}  firesteel-{version}-x86_64-linux.tar.gz"


class Artefacts(unittest.TestCase):
    def test_the_newest_release_is_chosen_by_numbers_and_not_by_letters(self):
        sums = "\n".join([line("0.9.0+g1"), line("0.10.0+g0"), "b" * 64 + "  firesteel_0.11.0_amd64.deb"])
        self.assertEqual(cluster.artefact(sums)["version"], "0.10.0+g0")

    def test_a_version_that_is_named_is_taken_or_told_to_be_missing(self):
        sums = "\n".join([line("0.1.0+g1"), line("0.2.0+g2")])
        self.assertEqual(cluster.artefact(sums, "0.1.0+g1")["file"], "firesteel-0.1.0+g1-x86_64-linux.tar.gz")
        with self.assertRaisesRegex(AnsibleFilterError, "no version 3, only 0.1.0.g1, 0.2.0.g2"):
            cluster.artefact(sums, "3")

    def test_two_builds_of_one_release_have_no_newest(self):
        with self.assertRaisesRegex(AnsibleFilterError, "set firesteel_version"):
            cluster.artefact("\n".join([line("0.1.0+g1"), line("0.1.0+g2")]))

    def test_a_file_without_tarballs_is_told(self):
        with self.assertRaisesRegex(AnsibleFilterError, "firesteel_artefacts"):
            cluster.artefact("nothing")


class Addresses(unittest.TestCase):
    def test_what_was_said_comes_before_what_was_found(self):
        host = {"inventory_hostname": "a", "ansible_default_ipv4": {"address": "10.0.0.1"}}
        self.assertEqual(cluster.address(host), "10.0.0.1")
        self.assertEqual(cluster.address({**host, "ansible_host": "b"}), "b")
        self.assertEqual(cluster.address({**host, "ansible_host": "b", "firesteel_address": "c"}), "c")
        self.assertEqual(cluster.address({"inventory_hostname": "a"}), "a")

    def test_managers_have_their_order_and_ports_of_their_own(self):
        hosts = {"b": {"inventory_hostname": "b", "firesteel_manager_port": 7500}, "a": {"inventory_hostname": "a", "ansible_host": "fd00::1"}}
        self.assertEqual(cluster.manager_addresses(["b", "a"], hosts, 7400), ["b:7500", "[fd00::1]:7400"])


class Toml(unittest.TestCase):
    def test_every_kind_of_value_reads_back(self):
        import tomllib

        config = {"worker": {"id": 'a"b\\c\né', "cores": 4, "pin": False, "fraction": 0.5, "scratch": ["/a", "/b"], "rack": None}, "client": {"queue": None}}
        read = tomllib.loads(cluster.toml(config))
        self.assertEqual(read, {"worker": {"id": 'a"b\\c\né', "cores": 4, "pin": False, "fraction": 0.5, "scratch": ["/a", "/b"]}})

    def test_what_toml_has_not_is_refused_with_its_name(self):
        with self.assertRaisesRegex(AnsibleFilterError, "worker"):
            cluster.toml({"worker": {"worker": {"deeper": 1}}})
        with self.assertRaisesRegex(AnsibleFilterError, "a b"):
            cluster.toml({"worker": {"a b": 1}})


class Nodes(unittest.TestCase):
    def test_missing_dead_and_half_started_workers_are_told(self):
        def node(name, state="alive", executors=({"index": 0, "up": True},)):
            return {"worker": name, "state": state, "executors": list(executors)}

        nodes = {"nodes": [node("a"), node("b", "lost"), node("c", executors=[{"index": 1, "up": False}]), node("d", executors=[])]}
        self.assertEqual(
            cluster.cluster_faults(nodes, ["a", "b", "c", "d", "e"]),
            ["b is not registered, or not alive", "e is not registered, or not alive", "executor 1 of c is down", "d has no executor"],
        )
        self.assertEqual(cluster.cluster_faults(nodes, ["a"]), [])

    def test_a_manager_that_takes_no_part_is_a_fault(self):
        def member(name, role):
            return {"manager": name, "reachable": True, "role": role}

        told = {"leader": "a", "managers": [member("a", "leader"), member("b", "joining"), {"manager": "c", "reachable": False, "fault": "x"}]}
        self.assertEqual(cluster.manager_faults(told, 3), ["b is joining", "c cannot be reached"])
        self.assertEqual(cluster.manager_faults({"leader": "a", "managers": [member("a", "alone")]}, 1), [])
        self.assertEqual(
            cluster.manager_faults({"leader": None, "managers": [member("a", "follower")]}, 3), ["none of the managers leads", "1 of 3 managers are known"]
        )


class Acceptance(unittest.TestCase):
    def test_rounds_have_every_pair_once_and_no_host_twice_at_a_time(self):
        for count in range(1, 12):
            hosts = [f"h{index}" for index in range(count)]
            rounds = acceptance.rounds(hosts)
            pairs = [frozenset(pair) for pairs in rounds for pair in pairs]
            self.assertEqual(len(pairs), len(set(pairs)))
            self.assertEqual(len(pairs), count * (count - 1) // 2)
            for one in rounds:
                ends = [end for pair in one for end in pair]
                self.assertEqual(len(ends), len(set(ends)))

    def test_the_odd_host_and_the_slow_pair_are_pointed_at(self):
        def net(peer, out, into):
            return {"peer_host": peer, "send_bytes_per_second": out, "receive_bytes_per_second": into, "round_trip": {"median_us": 50}}

        def disk(speed):
            return [{"write_bytes_per_second": speed, "read_bytes_per_second": 2e9}]

        hosts = {"a": {"net": [net("b", 1e9, 1e9), net("c", 1e9, 4e8)], "disk": disk(1e9)}, "b": {"net": [net("c", 1e9, 1e9)], "disk": disk(1e9)}, "c": {"net": [], "disk": disk(5e8)}}
        rows = acceptance.judge(hosts, 0.2)
        odd = {(row["what"], row["host"]) for row in rows if row["odd"]}
        self.assertIn(("disk 0 write", "c"), odd)
        self.assertNotIn(("disk 0 read", "c"), odd)
        self.assertEqual(acceptance.odd_pairs(hosts, 0.2), ["a - c: 0.40 GB/s, median 1.00"])
        self.assertIn("<-- odd", "\n".join(acceptance.table(rows, [])))
        self.assertTrue(any(line.startswith("odd hosts: ") and "c" in line for line in acceptance.table(rows, [])))


if __name__ == "__main__":
    sys.exit(unittest.main())
