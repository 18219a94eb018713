//! What a target is made of.

/// A target that runs inputs by `$run`, and has them changed by `$change` too.
#[macro_export]
macro_rules! target {
    ($run:expr, $change:expr) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            let _accepted = $run(input);
        });

        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
            // The fuzzer's own changes find what nobody thought of.
            if seed % 4 == 0 {
                return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
            }
            let mut input = data[..size].to_vec();
            $change(&mut input, u64::from(seed));
            if input.len() > max_size {
                return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
            }
            data[..input.len()].copy_from_slice(&input);
            input.len()
        });
    };
}
