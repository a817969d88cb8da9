mod core;
mod hostile;
mod pair;
mod transport;
