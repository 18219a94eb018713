//! Kernel, processor features, clock.

use super::{Finding, read};

const AREA: &str = "system";

/// From this kernel on, rings have everything that is used of them.
const KERNEL_WANTED: (u32, u32) = (6, 1);

pub(super) fn examine() -> Vec<Finding> {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let clock = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    vec![judge_kernel(&release), judge_features(&cpuinfo), judge_clock(clock.as_deref())]
}

pub(super) fn judge_kernel(release: &str) -> Finding {
    let (major, minor) = KERNEL_WANTED;
    match version(release) {
        Some(version) if version >= KERNEL_WANTED => Finding::ok(AREA, "kernel", release),
        _ => Finding::warn(
            AREA,
            "kernel",
            if release.is_empty() { "unknown" } else { release },
            format!("use Linux {major}.{minor} or newer: older rings lack deferred task work"),
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The features that kernels of this project and its dependencies are faster with.
const FEATURES: [&str; 4] = ["avx2", "bmi2", "avx512f", "avx512vl"];

pub(super) fn judge_features(cpuinfo: &str) -> Finding {
    let name = "CPU features";
    let flags = |line: &str| line.starts_with("flags") || line.starts_with("Features");
    let line = cpuinfo.lines().find(|line| flags(line)).unwrap_or_default();
    let has = |feature: &str| line.split_whitespace().any(|word| word == feature);
    if has("asimd") {
        return Finding::ok(AREA, name, "asimd");
    }
    let found: Vec<&str> = FEATURES.into_iter().filter(|feature| has(feature)).collect();
    let lacking: Vec<&str> = FEATURES.into_iter().filter(|feature| !has(feature)).collect();
    let mut text = if found.is_empty() { "none of those looked for".to_owned() } else { found.join(", ") };
    if !lacking.is_empty() {
        text += &format!("; not {}", lacking.join(", "));
    }
    if has("avx2") {
        Finding::ok(AREA, name, text)
    } else {
        let advice = "use a processor with AVX2; in a virtual machine, pass the host's CPU model through";
        Finding::warn(AREA, name, text, advice)
    }
}

pub(super) fn judge_clock(source: Option<&str>) -> Finding {
    match source {
        Some(source @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page")) => {
            Finding::ok(AREA, "clock source", source)
        }
        other => Finding::warn(
            AREA,
            "clock source",
            other.unwrap_or("unknown"),
            "reading the time takes a system call: boot with clocksource=tsc if the TSC is stable",
        ),
    }
}
