//! How does a table of rules become an error type? One line per rule, its label beside it.
//!
//! The table holds no control flow: it only keeps an enum, its labels and the list of all in step.

/// Declares a `Copy` enum of broken rules with `ALL` and `name`.
macro_rules! rules {
    ($(#[$meta:meta])* pub enum $Name:ident {
        $($(#[$doc:meta])* $Rule:ident = $label:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $Name { $($(#[$doc])* $Rule,)+ }

        impl $Name {
            /// Every rule, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$Rule,)+];

            /// The rule's label in counters and logs, in snake case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Rule => $label,)+ }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::error::Error for $Name {}
    };
}

pub(crate) use rules;
