//! Keys as BuildKit has computed them, and steps looked up in caches.

mod contents;
mod definitions;
mod lookup;
mod steps;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const X: &str = "X=a<b>&c";
