//! Expressions for the number of pods.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln_firstboot::render::{ExpressionVariables, evaluate};

fuzz_target!(|input: &str| {
    let variables = ExpressionVariables {
        default_enis: 4,
        ips_per_eni: 15,
        max_pods: 58,
    };
    let _ = evaluate(input, &variables);
});
