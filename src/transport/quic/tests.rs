mod core;
mod hostile;
mod pair;
