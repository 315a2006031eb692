//! The model of a running build and its renderers.
