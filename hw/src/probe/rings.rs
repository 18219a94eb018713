//! io_uring and its features.

use super::{Finding, read};
use crate::ring::{self, Feature, RingError};

const AREA: &str = "io_uring";

pub(super) fn examine() -> Vec<Finding> {
    let disabled = read("/proc/sys/kernel/io_uring_disabled");
    let usable = ring::usable();
    let there = usable.is_ok();
    let mut findings = vec![judge_ring(usable, disabled.as_deref())];
    if there {
        findings.extend(Feature::ALL.into_iter().map(|feature| judge_feature(feature, feature.try_out())));
    }
    findings
}

/// `disabled` is the setting of that name: 0 all may, 1 those of a group, 2 nobody.
pub(super) fn judge_ring(usable: Result<(), RingError>, disabled: Option<&str>) -> Finding {
    let Err(fault) = usable else { return Finding::ok(AREA, "rings", "available") };
    let advice = match disabled {
        Some("0") => {
            "a seccomp profile (of a container) forbids it: allow io_uring_setup, _enter and _register"
        }
        Some(_) => "sysctl -w kernel.io_uring_disabled=0, or add the user to kernel.io_uring_group",
        None => "use a kernel with CONFIG_IO_URING",
    };
    Finding::missing(AREA, "rings", fault.to_string(), advice)
}

pub(super) fn judge_feature(feature: Feature, tried: Result<(), RingError>) -> Finding {
    match tried {
        Ok(()) => Finding::ok(AREA, feature.name(), "available"),
        Err(fault) => Finding::missing(AREA, feature.name(), fault.to_string(), advice(feature)),
    }
}

fn advice(feature: Feature) -> &'static str {
    match feature {
        Feature::SingleIssuer | Feature::ZeroCopySend => "use Linux 6.0 or newer",
        Feature::CooperativeTaskWork | Feature::CancelAll => "use Linux 6.0 or newer",
        Feature::LinkedOperations => "use Linux 5.3 or newer",
        Feature::DeferredTaskWork => "use Linux 6.1 or newer",
        Feature::RegisteredBuffers => "raise the limit on locked memory (ulimit -l), or give CAP_IPC_LOCK",
        Feature::RegisteredFiles => "use Linux 5.19 or newer",
    }
}
