#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vectile::fuzzing::run(vectile::fuzzing::input, data));
