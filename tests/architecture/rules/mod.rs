//! The rules, with one file for each subject.

mod files;
mod kernels;
mod pages;
mod places;

mod prose;
mod rooms;
