pub mod limits;
pub mod transport;
