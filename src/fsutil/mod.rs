//! DiffCopy, the file transfer protocol of BuildKit: walk, patterns, send, receive.
