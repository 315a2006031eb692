//! What `tests/it`, `tests/fuzz` and `benches` use of the library, under its own paths. Not an interface for anybody else.

#![allow(missing_docs, reason = "each module is the one of the same path")]

pub mod buildkit {
    pub use crate::buildkit::{Client, new_id};

    pub mod session {
        pub use crate::buildkit::session::Session;

        pub mod content {
            pub use crate::buildkit::session::content::{ContentStore, NewBlob, StoreError, Write};
        }

        pub mod file_sync {
            pub use crate::buildkit::session::file_sync::LocalDirs;
        }

        pub mod tunnel {
            pub use crate::buildkit::session::tunnel::open;
        }
    }

    pub mod solve {
        pub use crate::buildkit::solve::{SolveObserver, SolveRequest, solve};
    }
}

pub mod cache {
    pub mod config {
        pub use crate::cache::config::{
            CacheConfig, CacheInput, CacheLayer, CacheRecord, CacheResult, MEDIA_TYPE, Parent,
        };
    }

    pub mod export {
        pub use crate::cache::export::{
            Beside, ExportProgress, ExportSettings, PublishError, Published, RegistrySink, Rules,
            Storage, publish,
        };
    }

    pub mod extras {
        pub use crate::cache::extras::Extras;
    }

    pub mod record {
        pub use crate::cache::record::Record;
    }

    pub mod sign {
        pub mod bundle {
            pub use crate::cache::sign::bundle::Opened;
        }

        pub mod embedded {
            pub use crate::cache::sign::embedded::{bare, embed, take_apart};
        }

        pub mod key {
            pub use crate::cache::sign::key::{Algorithm, PublicKey, SigningKey};
        }

        pub mod trust {
            pub use crate::cache::sign::trust::{Trust, TrustError};
        }
    }

    pub mod keys {
        pub use crate::cache::keys::{Facts, Keys, Kind, Plan, Tree};

        pub mod calibrate {
            pub use crate::cache::keys::calibrate::Calibration;
        }

        pub mod compare {
            pub use crate::cache::keys::compare::{Comparison, Fate, State, forecast};
        }

        pub mod header {
            pub use crate::cache::keys::header::FileHash;
        }
    }

    pub mod remote_cache {
        pub use crate::cache::remote_cache::RemoteCache;
    }

    pub mod descriptor {
        pub use crate::cache::descriptor::Descriptor;
    }

    pub mod manifest {
        pub use crate::cache::manifest::CacheManifest;
    }

    pub mod media {
        pub use crate::cache::media::Form;
    }

    pub mod merge {
        pub use crate::cache::merge::Contents;
    }

    pub mod unknown {
        pub use crate::cache::unknown::Unknown;
    }
}

pub mod cli {
    pub use crate::cli::command;
}

pub mod compress {
    pub use crate::compress::{Algorithm, Digests, Encoder, Error, Level, Workers};
}

pub mod digest {
    pub use crate::digest::{Digest, Hasher};
}

pub mod docker {
    pub use crate::docker::token::Tokens;
    pub use crate::docker::{
        ConfigFile, Contexts, Endpoint, EndpointOptions, Engine, EngineError, ExecHandle,
        ExecStream, TlsFiles, config_dir,
    };
}

pub mod env {
    pub use crate::env::Env;
}

pub mod error {
    pub use crate::error::chain;
}

pub mod explain {
    pub use crate::explain::{Build, Cache, Outcome, Outcomes, OwnFiles, Status, diagnose};
}

pub mod fsutil {
    pub use crate::fsutil::{Attributes, Filter, Matcher, SendStats, send};

    pub mod wire {
        pub use crate::fsutil::wire::{MODE_DIR, MODE_SYMLINK, Packet, PacketType, Stat};
    }
}

pub mod plugin {
    pub mod hand_on {
        pub use crate::plugin::hand_on::COVERED_VERSION;
    }
}

pub mod registry {
    pub use crate::registry::{
        Access, Arrival, BlobSource, Download, HostConfig, RegistryClient, Repository, RetryPolicy,
        SpoolDir, SystemClock, Timeouts, Transport, UploadOptions,
    };
}
