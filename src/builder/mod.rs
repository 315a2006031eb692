//! Builder instances in the store shared with buildx, their drivers and how they are booted.
