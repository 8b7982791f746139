//! What do the processes of a cluster know together? Configuration, who is there, sessions, keys: in one database.
//!
//! Never on a request's way: whoever asks here can wait, and goes on with what it knows when there is no answer.
