//! Does the program do what it says, seen from outside? Runs the binary against real sockets on loopback.

mod harness;

mod accounts;
mod faults;
mod ids;
mod known_schedule;
mod live_view;
mod load;
mod origin;
mod output;
mod profiles;
mod requests;
mod scale;
mod schedule;
mod tcp;
mod transports;
mod websocket;
