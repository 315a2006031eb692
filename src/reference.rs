//! References of images and caches in the grammar of Docker.
