//! Registry client: authentication, upload, download, retry.
