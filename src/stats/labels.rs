//! Sets of labels: an enum whose values are shown by a fixed word each.

/// Declares one: `Variant = "label"`. `ALL` has the variants in their order.
macro_rules! labels {
    ($($(#[$doc:meta])* pub enum $name:ident { $($(#[$of:meta])* $variant:ident = $label:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl $name {
            /// All of them, in their order.
            pub const ALL: [Self; [$($label),*].len()] = [$(Self::$variant),*];

            /// The label, as metrics and logs show it.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }

            /// What has this label.
            pub fn from_label(label: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|known| known.label() == label)
            }
        }
    )*};
}

pub(super) use labels;
