#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

fn limits(families: &[Family]) -> Limits {
    Limits {
        workers: 3,
        families: families.to_vec(),
        every: Duration::from_secs(1)..=Duration::from_secs(5),
        until: Duration::from_secs(3600),
    }
}

#[test]
fn a_seed_is_a_schedule_and_another_one_another() {
    let of = |seed| Draw::new(seed, limits(&Family::ALL)).collect::<Vec<_>>();
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

/// Each second of an hour: no host has two faults, and one worker has none.
#[test]
fn the_budget_is_kept() {
    for seed in 0..50 {
        let faults: Vec<_> = Draw::new(seed, limits(&Family::ALL)).collect();
        assert!(faults.len() > 500, "{}", faults.len());
        for (index, fault) in faults.iter().enumerate() {
            let under_way = |other: &&Fault| other.at_ms + other.for_ms >= fault.at_ms;
            let others: Vec<_> = faults[..index].iter().filter(under_way).map(|other| other.target).collect();
            let mut hit: Vec<u32> = others.iter().flat_map(|target| target.workers()).collect();
            hit.extend(fault.target.workers());
            let count = hit.len();
            hit.sort_unstable();
            hit.dedup();
            assert_eq!(hit.len(), count, "two at a time: {fault} and {others:?}");
            assert!(hit.len() < 3, "{fault} and {others:?}");
            assert!(fault.target != Target::Manager || !others.contains(&Target::Manager), "{fault}");
        }
    }
}

#[test]
fn only_what_was_asked_for_is_drawn() {
    for fault in Draw::new(3, limits(&[Family::Stop, Family::Corrupt])) {
        assert!(matches!(fault.kind, Kind::Stop | Kind::Corrupt), "{fault}");
        assert_ne!(fault.target, Target::Manager);
    }
    let manager: Vec<_> = Draw::new(3, limits(&[Family::Manager])).collect();
    assert!(manager.iter().all(|fault| fault.target == Target::Manager));
    assert!(manager.iter().any(|fault| fault.kind == Kind::Kill));
    assert!(manager.iter().any(|fault| fault.kind == Kind::Stop));
}

#[test]
fn a_log_is_read_as_it_was_written_and_rubbish_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faults");
    let header = Header { seed: 1, for_ms: 60_000, workers: 3, clients: 2, networked: true };
    let faults: Vec<_> = Draw::new(1, limits(&Family::ALL)).take(50).collect();
    write_log(&path, &header, &faults).unwrap();
    assert_eq!(read_log(&path).unwrap(), (header.clone(), faults));
    let beyond = Fault { at_ms: 5, kind: Kind::Kill, target: Target::Worker(3), for_ms: 0 };
    write_log(&path, &header, &[beyond]).unwrap();
    assert!(read_log(&path).unwrap_err().to_string().contains("there are 3 workers"));
    std::fs::write(&path, "{}\n").unwrap();
    assert!(read_log(&path).is_err());
}
