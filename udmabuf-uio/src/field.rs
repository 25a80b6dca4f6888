//! Bit fields of a register, by name.

use std::marker::PhantomData;

use crate::{Value, Word};

/// What a bit field can hold: an integer, a `bool`, or a type of the driver's
/// own, an enumeration or a number with a unit.
///
/// ```
/// use udmabuf_uio::{FieldValue, bits};
///
/// /// Burst length, which the register holds as its logarithm.
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Beats { One, Two, Four, Eight }
///
/// impl FieldValue for Beats {
///     const BITS: u32 = 2;
///     fn from_bits(bits: u64) -> Self {
///         [Self::One, Self::Two, Self::Four, Self::Eight][(bits & 3) as usize]
///     }
///     fn to_bits(self) -> u64 { self as u64 }
/// }
///
/// bits! { struct Mode(u32) { 4..=5 => BURST: Beats } }
///
/// assert_eq!(Mode::default().with(Mode::BURST, Beats::Four), Mode(0x20));
/// assert_eq!(Mode(0xf0).get(Mode::BURST), Beats::Eight);
/// ```
pub trait FieldValue: Copy {
    /// How many bits a value can have.
    const BITS: u32;

    /// From the field's bits; those above its width are 0.
    fn from_bits(bits: u64) -> Self;

    /// The field's bits.
    fn to_bits(self) -> u64;
}

impl FieldValue for bool {
    const BITS: u32 = 1;
    fn from_bits(bits: u64) -> Self {
        bits != 0
    }
    fn to_bits(self) -> u64 {
        self.into()
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl FieldValue for $int {
            const BITS: u32 = <$int>::BITS;
            #[allow(clippy::cast_possible_truncation, reason = "`Field::get` passes no wider ones")]
            fn from_bits(bits: u64) -> Self {
                bits as Self
            }
            fn to_bits(self) -> u64 {
                self.into()
            }
        }
    )*};
}
integers!(u8, u16, u32, u64);

/// Bits `LOW` to `HIGH` of register value `R`, which hold a `V`. [`bits!`](crate::bits)
/// declares them.
#[derive(Debug)]
pub struct Field<R, V, const LOW: u32, const HIGH: u32>(PhantomData<fn(R) -> V>);

impl<R, V, const LOW: u32, const HIGH: u32> Clone for Field<R, V, LOW, HIGH> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R, V, const LOW: u32, const HIGH: u32> Copy for Field<R, V, LOW, HIGH> {}

impl<R: Value, V: FieldValue, const LOW: u32, const HIGH: u32> Field<R, V, LOW, HIGH> {
    /// The field; one outside the register, or wider than its type, does not compile.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "for constants")]
    pub const fn new() -> Self {
        const {
            assert!(LOW <= HIGH, "a field is written from its low bit to its high bit");
            assert!(
                (HIGH as usize) < 8 * size_of::<R::Word>(),
                "the field is outside its register"
            );
            assert!(HIGH - LOW < V::BITS, "the field has more bits than its type");
        }
        Self(PhantomData)
    }

    /// The field's value in a register's.
    #[inline]
    #[must_use]
    pub fn get(self, register: R) -> V {
        V::from_bits(register.to_word().to_u64() >> LOW & Self::MASK)
    }

    /// The register's value with another one in this field. A type with values
    /// that do not fit needs [`try_set`](Self::try_set): this does not compile.
    #[inline]
    #[must_use]
    pub fn set(self, register: R, value: V) -> R {
        const {
            assert!(
                V::BITS == HIGH - LOW + 1,
                "the type has values that do not fit into the field: use `try_with`"
            );
        }
        Self::replace(register, value.to_bits() & Self::MASK)
    }

    /// As [`set`](Self::set), for a value that may be too large.
    ///
    /// # Errors
    /// [`TooWide`]
    pub fn try_set(self, register: R, value: V) -> Result<R, TooWide> {
        let value = value.to_bits();
        if value > Self::MASK {
            return Err(TooWide { value, bits: HIGH - LOW + 1 });
        }
        Ok(Self::replace(register, value))
    }

    const MASK: u64 = u64::MAX >> (63 - (HIGH - LOW));

    /// `bits` has no more bits than the field.
    fn replace(register: R, bits: u64) -> R {
        let rest = register.to_word().to_u64() & !(Self::MASK << LOW);
        R::from_word(R::Word::from_u64(rest | bits << LOW))
    }
}

/// A value that does not fit into its bit field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:#x} does not fit into a field of {bits} bits")]
pub struct TooWide {
    /// What was to be stored.
    pub value: u64,
    /// Width of the field.
    pub bits: u32,
}

/// Declares what a register holds: bit fields with names and types.
///
/// ```
/// udmabuf_uio::bits! {
///     /// The adder's control register.
///     pub struct Control(u32) {
///         /// Writing 1 starts it.
///         0 => START: bool,
///         /// Words to add.
///         8..=15 => WORDS: u8,
///         16..=19 => TAG: u8,
///     }
/// }
///
/// let control = Control::default().with(Control::START, true).with(Control::WORDS, 7);
/// assert_eq!(control, Control(0x0701));
/// assert_eq!(control.get(Control::WORDS), 7);
/// assert_eq!(format!("{control:?}"), "Control { START: true, WORDS: 7, TAG: 0 }");
/// // A `u8` may be too wide for four bits:
/// assert_eq!(control.try_with(Control::TAG, 0xf)?, Control(0xf_0701));
/// assert!(control.try_with(Control::TAG, 0x10).is_err());
/// # Ok::<(), udmabuf_uio::TooWide>(())
/// ```
/// A field outside the register does not compile:
/// ```compile_fail
/// udmabuf_uio::bits! { struct Control(u32) { 30..=32 => TAG: u8 } }
/// ```
/// and as `with` refuses no value, it refuses a type with values that do not
/// fit:
/// ```compile_fail
/// udmabuf_uio::bits! { struct Control(u32) { 16..=19 => TAG: u8 } }
/// let control = Control::default().with(Control::TAG, 1);
/// ```
#[macro_export]
macro_rules! bits {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Bits:ident($word:ty) {
            $(
                $(#[$doc:meta])*
                $low:literal $(..= $high:literal)? => $name:ident: $V:ty
            ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq)]
        $vis struct $Bits($vis $word);

        #[allow(dead_code, reason = "a register is declared whole, and used as needed")]
        impl $Bits {
            $(
                $(#[$doc])*
                $vis const $name: $crate::Field<Self, $V, $low, { $crate::bits!(@last $low $($high)?) }> =
                    $crate::Field::new();
            )*

            /// The value of a field.
            #[inline]
            #[must_use]
            $vis fn get<V: $crate::FieldValue, const LOW: u32, const HIGH: u32>(
                self,
                field: $crate::Field<Self, V, LOW, HIGH>,
            ) -> V {
                field.get(self)
            }

            /// With another value in a field.
            #[inline]
            #[must_use]
            $vis fn with<V: $crate::FieldValue, const LOW: u32, const HIGH: u32>(
                self,
                field: $crate::Field<Self, V, LOW, HIGH>,
                value: V,
            ) -> Self {
                field.set(self, value)
            }

            /// With another value in a field, if it fits.
            ///
            /// # Errors
            /// The value has more bits than the field.
            $vis fn try_with<V: $crate::FieldValue, const LOW: u32, const HIGH: u32>(
                self,
                field: $crate::Field<Self, V, LOW, HIGH>,
                value: V,
            ) -> ::core::result::Result<Self, $crate::TooWide> {
                field.try_set(self, value)
            }
        }

        // Evaluated, and so checked, also where it is not used.
        $(const _: () = {
            let _ = $Bits::$name;
        };)*

        impl $crate::Value for $Bits {
            type Word = $word;
            #[inline]
            fn from_word(word: $word) -> Self {
                Self(word)
            }
            #[inline]
            fn to_word(self) -> $word {
                self.0
            }
        }

        impl ::core::fmt::Debug for $Bits {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(stringify!($Bits))
                    $(.field(stringify!($name), &self.get(Self::$name)))*
                    .finish()
            }
        }
    };
    (@last $low:literal) => { $low };
    (@last $low:literal $high:literal) => { $high };
}
