//! Data that is the same at each call, on every machine; the benchmarks use it, too.

/// Bytes that compress about as the programs and texts of a layer do, to a third: words, zeros and noise in turns.
pub(crate) fn layer(size: usize) -> Vec<u8> {
    let mut random = random(0x2545_f491_4f6c_dd1d);
    let mut data = Vec::with_capacity(size + 4096);
    while data.len() < size {
        match random() % 16 {
            0 => data.resize(data.len() + (random() % 4096) as usize, 0),
            1..=3 => data.extend((0..32).flat_map(|_| random().to_le_bytes())),
            _ => {
                let word = random() % 1000;
                data.extend_from_slice(
                    format!("/usr/lib/{word:x}/lib{}.so\n", word * word).as_bytes(),
                );
            }
        }
    }
    data.truncate(size);
    data
}

/// Numbers by xorshift.
fn random(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}
