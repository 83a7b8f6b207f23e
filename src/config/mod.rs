//! What the process is told from outside: its environment, and the folder of a bundle.

mod environment;
mod folder;
mod loading;

pub use environment::Environment;
pub use folder::{FolderError, read_bundle};
pub use loading::load;
