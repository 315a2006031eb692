//! Finds the requests in what a client sends over one HTTP/1.1 connection.

/// A head longer than this is none.
const LONGEST_HEAD: usize = 64 * 1024;

/// Where in the stream of requests a connection is.
#[derive(Default)]
pub struct Requests {
    at: At,
    /// The head, or the line of a chunk, as far as it has come.
    text: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
enum At {
    #[default]
    Head,
    /// In a body, or the data of a chunk with the line end behind it.
    Body { left: u64, chunked: bool },
    ChunkLine,
    /// Behind the last chunk, in the lines up to the empty one.
    Trailer,
    /// Not understood; nothing more is counted.
    Lost,
}

impl Requests {
    /// Takes the next bytes and returns how many heads ended in them.
    pub fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut heads = 0;
        while let Some(first) = bytes.first() {
            match self.at {
                At::Lost => return heads,
                At::Body { left, chunked } => {
                    let taken = left.min(bytes.len() as u64);
                    bytes = &bytes[usize::try_from(taken).unwrap_or(bytes.len())..];
                    self.at = match left - taken {
                        0 if chunked => At::ChunkLine,
                        0 => At::Head,
                        left => At::Body { left, chunked },
                    };
                }
                At::Head | At::ChunkLine | At::Trailer => {
                    self.text.push(*first);
                    bytes = &bytes[1..];
                    heads += u64::from(self.step());
                }
            }
        }
        heads
    }

    /// Looks whether a head or line is complete; tells whether it was a head.
    fn step(&mut self) -> bool {
        let text = self.text.as_slice();
        let end: &[u8] = if matches!(self.at, At::Head) { b"\r\n\r\n" } else { b"\r\n" };
        if !text.ends_with(end) {
            if text.len() > LONGEST_HEAD {
                self.at = At::Lost;
            }
            return false;
        }
        let head = matches!(self.at, At::Head);
        self.at = match self.at {
            At::Head => after_head(&String::from_utf8_lossy(text)),
            At::ChunkLine => after_chunk_line(&String::from_utf8_lossy(text)),
            At::Trailer if text == b"\r\n" => At::Head,
            other => other,
        };
        self.text.clear();
        head
    }
}

fn after_head(head: &str) -> At {
    let value = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    if value("transfer-encoding").is_some() {
        return At::ChunkLine;
    }
    match value("content-length").map(str::parse) {
        None | Some(Ok(0)) => At::Head,
        Some(Ok(left)) => At::Body { left, chunked: false },
        Some(Err(_)) => At::Lost,
    }
}

fn after_chunk_line(line: &str) -> At {
    let size = line.split(';').next().unwrap_or_default().trim();
    match u64::from_str_radix(size, 16) {
        Ok(0) => At::Trailer,
        Ok(size) => At::Body { left: size + 2, chunked: true },
        Err(_) => At::Lost,
    }
}
