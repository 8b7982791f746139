//! Does the program do what it says, seen from outside? Runs the binary against real sockets on loopback.

mod harness;

mod faults;
mod load;
mod origin;
mod output;
mod scale;
mod schedule;
