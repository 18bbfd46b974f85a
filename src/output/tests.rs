use super::*;

const DIM: usize = 11;

/// Five rows of eleven standard normal values (numpy `default_rng(11)`, rounded to four digits). Column 3
/// is constant, and column 7 holds 0, 1, −1, 0, −0.
const ROWS: [f32; 55] = [
    0.0342, 1.3597, 1.2247, 0.25, -0.298, -0.5274, 0.5697, 0.0, 0.7469, -1.8473, 1.5665, -0.0964,
    0.6804, -0.1366, 0.25, 0.4631, 0.8245, -0.2025, 1.0, 0.6857, -0.8703, -1.5144, 0.395, -0.6706,
    -1.9203, 0.25, -0.4676, -1.1932, -1.4925, -1.0, 0.8972, -0.2331, -0.7436, 0.385, 0.7172, -0.3,
    0.25, 1.0429, -0.207, -0.8135, 0.0, 0.2475, 1.0988, -1.2846, -0.6616, -0.8382, -1.734, 0.25,
    0.5278, -0.7388, 1.3856, -0.0, 0.6274, 0.4017, 0.9557,
];

// The expected values come from `quantize_embeddings(ROWS, precision)` of sentence-transformers 6.2.0 with
// numpy 2.4.6.
const INT8: [i8; 55] = [
    39, 126, 127, -128, -100, -44, 54, -1, 68, -128, 127, 8, 48, 16, -128, 29, 126, -14, 126, 43,
    -44, -128, 127, -109, -128, -128, -128, -128, -128, -128, 127, 11, -65, 124, 52, 3, -128, 127,
    -4, -68, -1, -128, 127, -109, -128, -128, -113, -128, 40, -71, 127, -1, 21, 66, 76,
];
const UINT8: [u8; 55] = [
    167, 254, 255, 0, 28, 84, 182, 127, 196, 0, 255, 136, 176, 144, 0, 157, 254, 114, 254, 171, 84,
    0, 255, 19, 0, 0, 0, 0, 0, 0, 255, 139, 63, 252, 180, 131, 0, 255, 124, 60, 127, 0, 255, 19, 0,
    0, 15, 0, 168, 57, 255, 127, 149, 194, 204,
];
const BINARY: [i8; 10] = [114, 32, -35, 0, 16, 0, 88, 64, -102, 96];
const UBINARY: [u8; 10] = [242, 160, 93, 128, 144, 128, 216, 192, 26, 224];

fn quantized(precision: OutputPrecision) -> Quantized {
    quantize(&ROWS, DIM, precision, None).unwrap()
}

#[test]
fn integer_precisions_equal_those_of_numpy() {
    assert_eq!(quantized(OutputPrecision::Int8), Quantized::Int8(INT8.to_vec()));
    assert_eq!(quantized(OutputPrecision::Uint8), Quantized::Uint8(UINT8.to_vec()));
    assert_eq!(quantized(OutputPrecision::Binary), Quantized::Int8(BINARY.to_vec()));
    assert_eq!(quantized(OutputPrecision::Ubinary), Quantized::Uint8(UBINARY.to_vec()));
}

#[test]
fn floats_stay_or_are_rounded_to_the_nearest() {
    assert_eq!(quantized(OutputPrecision::Float32), Quantized::Float32(ROWS.to_vec()));
    let Quantized::Float16(halves) = quantized(OutputPrecision::Float16) else { panic!() };
    for (half, value) in halves.iter().zip(ROWS) {
        assert!((half.to_f32() - value).abs() <= value.abs() / 2048.0);
    }
}

#[test]
fn ranges_found_in_pieces_give_the_same_rows_in_pieces() {
    let mut ranges = Ranges::new(DIM);
    for piece in ROWS.chunks(2 * DIM) {
        ranges.update(piece);
    }
    assert_eq!(ranges.rows(), 5);
    assert_eq!((ranges.min()[3], ranges.max()[7]), (0.25, 1.0));
    let mut all = Vec::new();
    for piece in ROWS.chunks(DIM) {
        match quantize(piece, DIM, OutputPrecision::Uint8, Some(&ranges)).unwrap() {
            Quantized::Uint8(bytes) => all.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(all, UINT8);
}

#[test]
fn a_value_outside_the_ranges_gets_the_nearest_step() {
    let mut ranges = Ranges::new(1);
    ranges.update(&[0.0, 1.0]);
    let bytes = quantize(&[-5.0, 5.0, 1.0, 0.5], 1, OutputPrecision::Uint8, Some(&ranges)).unwrap();
    assert_eq!(bytes, Quantized::Uint8(vec![0, 255, 254, 127]));
}

#[test]
fn columns_of_one_value_are_step_zero() {
    let rows = [0.0, -3.5, 0.0, -3.5];
    let bytes = quantize(&rows, 2, OutputPrecision::Uint8, None).unwrap();
    assert_eq!(bytes, Quantized::Uint8(vec![0; 4]));
    let bytes = quantize(&rows, 2, OutputPrecision::Int8, None).unwrap();
    assert_eq!(bytes, Quantized::Int8(vec![-128; 4]));
}

#[test]
fn one_row_has_no_ranges_and_no_rows_need_none() {
    for precision in [OutputPrecision::Int8, OutputPrecision::Uint8] {
        let error = quantize(&[1.0, 2.0], 2, precision, None).unwrap_err();
        assert!(error.is_user_error() && error.to_string().contains("more texts"), "{error}");
        quantize(&[], 2, precision, None).unwrap();
    }
}

#[test]
fn impossible_calls_are_errors() {
    assert!(quantize(&[1.0], 0, OutputPrecision::Float32, None).is_err());
    assert!(quantize(&[1.0], 2, OutputPrecision::Binary, None).is_err());
    let error = quantize(&[1.0, 7e4], 2, OutputPrecision::Float16, None).unwrap_err();
    assert!(error.to_string().contains("column 1"), "{error}");
    let narrow = Ranges::new(1);
    assert!(quantize(&[1.0, 2.0], 2, OutputPrecision::Int8, Some(&narrow)).is_err());
}

#[test]
fn names_are_parsed_and_displayed() {
    for precision in OutputPrecision::ALL {
        assert_eq!(precision.to_string().parse(), Ok(precision));
    }
    assert!("int4".parse::<OutputPrecision>().is_err());
    assert_eq!(OutputPrecision::Ubinary.columns(384), 48);
    assert_eq!(OutputPrecision::Int8.columns(384), 384);
}
