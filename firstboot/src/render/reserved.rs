//! What the kubelet keeps for the system (`kubeReserved`): nodeadm's tables
//! (`aws/eks-hybrid`, `internal/kubelet/config.go`).

/// Millicores: 6 % of the first processor, 1 % of the second, 0.5 % of the next
/// two, 0.25 % of all others.
pub fn kube_reserved_cpu(logical_cpus: u32) -> u64 {
    // (processors in this range, thousandths of a percent of each).
    const RANGES: [(u64, u64); 4] = [(1, 6000), (1, 1000), (2, 500), (u64::MAX, 250)];
    let mut left = u64::from(logical_cpus);
    let mut reserved = 0;
    for (size, share) in RANGES {
        let here = left.min(size);
        // Whole millicores in each range, as upstream's integer division has it.
        reserved += here * 1000 * share / 100_000;
        left -= here;
    }
    reserved
}

/// A Kubernetes quantity, from `MemTotal` in KiB. Upstream first rounds the
/// machine's memory down to whole GiB, then the reserve to the nearest GiB, half
/// up; the steps are kept, odd as they are (1 GiB of memory reserves `0Gi`).
pub fn kube_reserved_memory(memory_kib: u64) -> String {
    let gib = memory_kib >> 20;
    // In hundredths of a GiB, so that halves are exact.
    let hundredths = match gib {
        0 => return "255Mi".into(),
        1..4 => 25 * gib,
        4..8 => 100 + 20 * (gib - 4),
        8..16 => 180 + 10 * (gib - 8),
        16..=128 => 260 + 6 * (gib - 16),
        _ => 932 + 2 * (gib - 128),
    };
    format!("{}Gi", (hundredths + 50) / 100)
}

/// A Kubernetes quantity for an EC2 node: by the number of pods, as EKS's images
/// have it.
pub fn kube_reserved_memory_of_pods(maximum: u32) -> String {
    format!("{}Mi", 11 * u64::from(maximum) + 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let table = [
            (0, 0),
            (1, 60),
            (2, 70),
            (3, 75),
            (4, 80),
            (6, 85),
            (8, 90),
            (16, 110),
            (32, 150),
            (48, 190),
            (64, 230),
            (96, 310),
            (128, 390),
            (192, 550),
        ];
        for (cpus, millicores) in table {
            assert_eq!(kube_reserved_cpu(cpus), millicores, "{cpus}");
        }
        // One more than an even number of the last range: 2.5 millicores, cut.
        assert_eq!(kube_reserved_cpu(5), 82);
    }

    #[test]
    fn memory_of_pods() {
        for (pods, quantity) in [
            (44, "739Mi"),
            (58, "893Mi"),
            (60, "915Mi"),
            (110, "1465Mi"),
            (i32::MAX as u32, "23622320372Mi"),
        ] {
            assert_eq!(kube_reserved_memory_of_pods(pods), quantity);
        }
    }

    #[test]
    fn memory() {
        let table: &[(u64, &str)] = &[
            (1, "0Gi"),
            (2, "1Gi"),
            (3, "1Gi"),
            (4, "1Gi"),
            (6, "1Gi"),
            (7, "2Gi"),
            (8, "2Gi"),
            (12, "2Gi"),
            (14, "2Gi"),
            (15, "3Gi"),
            (16, "3Gi"),
            (30, "3Gi"),
            (31, "4Gi"),
            (32, "4Gi"),
            (48, "5Gi"),
            (62, "5Gi"),
            (64, "5Gi"),
            (96, "7Gi"),
            (125, "9Gi"),
            (128, "9Gi"),
            (192, "11Gi"),
            (251, "12Gi"),
            (256, "12Gi"),
            (384, "14Gi"),
            (512, "17Gi"),
            (1024, "27Gi"),
        ];
        for &(gib, expected) in table {
            assert_eq!(kube_reserved_memory(gib << 20), expected, "{gib} GiB");
            // What the firmware keeps makes a machine of N GiB one of N-1.
            assert_eq!(
                kube_reserved_memory(((gib + 1) << 20) - 1),
                expected,
                "just below {} GiB",
                gib + 1
            );
        }
        assert_eq!(kube_reserved_memory(0), "255Mi");
        assert_eq!(kube_reserved_memory((1 << 20) - 1), "255Mi");
        assert_eq!(kube_reserved_memory(u64::MAX).len(), "351843720888Gi".len());
    }
}
