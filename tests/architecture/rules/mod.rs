//! The rules, by subject.

mod files;
mod kernels;
mod pages;
mod places;

mod prose;
mod rooms;
