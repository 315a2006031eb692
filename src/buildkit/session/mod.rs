//! The session of a build: services that BuildKit calls back, one file per service.
