//! A blob from one compression to another, in one pass.

use bytes::Bytes;

use super::{Algorithm, Decoder, Digests, Encoder, Error, Level, Output, Workers};

/// Decodes a blob and compresses it anew. As with [`Encoder`], its [`Output`] must be read at the
/// same time, and a call that fails or is cancelled leaves it unusable.
#[derive(Debug)]
pub struct Recoder {
    decoder: Decoder,
    encoder: Encoder,
}

/// A blob before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recoded {
    /// What was given: compare it with the blob's descriptor before the result is used.
    pub source: Digests,
    /// What was made of it; the content is the same.
    pub target: Digests,
}

impl Recoder {
    /// Makes a recoder of a blob in `from`, and the stream of its output.
    ///
    /// # Errors
    /// As [`Decoder::new`].
    pub fn new(from: Algorithm, to: Level, workers: &Workers) -> Result<(Self, Output), Error> {
        let decoder = Decoder::new(from, workers)?;
        let (encoder, output) = Encoder::new(to, workers);
        Ok((Self { decoder, encoder }, output))
    }

    /// Adds bytes of the blob. Waits while the output is full.
    ///
    /// # Errors
    /// As [`Decoder::next`] and [`Encoder::write`].
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.decoder.push(piece);
        while let Some(content) = self.decoder.next().await? {
            self.encoder.write(content).await?;
        }
        Ok(())
    }

    /// Ends the blob.
    ///
    /// # Errors
    /// As [`Decoder::finish`] and [`Encoder::finish`]; the output ends in an error then.
    pub async fn finish(self) -> Result<Recoded, Error> {
        let source = self.decoder.finish()?;
        let target = self.encoder.finish().await?;
        Ok(Recoded { source, target })
    }
}
