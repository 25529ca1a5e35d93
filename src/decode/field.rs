//! Lenient reading: a value of the wrong type is noted, not an error, because whether it matters is
//! known only when the whole update is.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Reason, Refusal};

/// What stands under a key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Field<T> {
    /// There is no such key.
    #[default]
    Missing,
    /// `null`, which counts as absent.
    Null,
    /// A value of another type, or the key was given twice.
    Wrong,
    /// A value of the right type.
    Is(T),
}

impl<T> Field<T> {
    /// Whether there is a value other than null, of whatever type.
    pub(super) const fn is_given(&self) -> bool {
        matches!(self, Self::Wrong | Self::Is(_))
    }

    /// The value, if it is there at all.
    pub(super) fn optional(self, path: &str) -> Result<Option<T>, Refusal> {
        match self {
            Self::Missing | Self::Null => Ok(None),
            Self::Wrong => Err(wrong(path)),
            Self::Is(value) => Ok(Some(value)),
        }
    }

    /// The value, which has to be there.
    pub(super) fn required(self, path: &str) -> Result<T, Refusal> {
        self.optional(path)?.ok_or_else(|| Refusal::at(Reason::InvalidEnvelope, path, "is missing"))
    }
}

fn wrong(path: &str) -> Refusal {
    Refusal::at(Reason::InvalidEnvelope, path, "has the wrong type or is given twice")
}

impl<'a, T: Value<'a>> Field<T> {
    /// Reads the value of a member that was just met.
    pub(super) fn read<A: MapAccess<'a>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        if matches!(self, Self::Missing) {
            *self = map.next_value_seed(Seed(PhantomData))?;
        } else {
            map.next_value::<IgnoredAny>()?;
            *self = Self::Wrong;
        }
        Ok(())
    }
}

/// A type of JSON value that a fact is made of; each accepts one kind and takes the others as wrong.
pub(super) trait Value<'a>: Sized {
    fn from_bool(_value: bool) -> Field<Self> {
        Field::Wrong
    }

    /// Of any length; `None` beyond 64 bits.
    fn from_integer(_number: Integer) -> Field<Self> {
        Field::Wrong
    }

    /// `None` where it matters whether digits alone stand there, and the parser does not tell.
    fn from_float(_number: f64) -> Option<Field<Self>> {
        Some(Field::Wrong)
    }

    fn from_string(_text: Cow<'a, str>) -> Field<Self> {
        Field::Wrong
    }

    fn from_array<A: SeqAccess<'a>>(mut array: A) -> Result<Field<Self>, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Wrong)
    }

    fn from_object<A: MapAccess<'a>>(mut object: A) -> Result<Field<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Wrong)
    }

    fn read<D: Deserializer<'a>>(deserializer: D) -> Result<Field<Self>, D::Error> {
        deserializer.deserialize_any(Any(PhantomData))
    }
}

struct Seed<T>(PhantomData<T>);

impl<'a, T: Value<'a>> DeserializeSeed<'a> for Seed<T> {
    type Value = Field<T>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Field<T>, D::Error> {
        T::read(deserializer)
    }
}

struct Any<T>(PhantomData<T>);

impl<'a, T: Value<'a>> Visitor<'a> for Any<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Field<T>, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Field<T>, E> {
        Ok(T::from_bool(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Field<T>, E> {
        Ok(T::from_integer(Some(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Field<T>, E> {
        Ok(T::from_integer(i64::try_from(number).ok()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Field<T>, E> {
        T::from_float(number).ok_or_else(|| E::custom("an integer or a float"))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<Field<T>, E> {
        Ok(T::from_string(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Field<T>, E> {
        Ok(T::from_string(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, array: A) -> Result<Field<T>, A::Error> {
        T::from_array(array)
    }

    fn visit_map<A: MapAccess<'a>>(self, object: A) -> Result<Field<T>, A::Error> {
        T::from_object(object)
    }
}

impl<'a> Value<'a> for Cow<'a, str> {
    fn from_string(text: Self) -> Field<Self> {
        Field::Is(text)
    }
}

/// An object, filled where it stands.
pub(super) trait Object<'a>: Default {
    fn fill<A: MapAccess<'a>>(&mut self, map: A) -> Result<(), A::Error>;
}

/// Large objects, of which most are missing, are moved as a pointer: half a kilobyte each otherwise, several times.
impl<'a, T: Object<'a>> Value<'a> for Box<T> {
    fn from_object<A: MapAccess<'a>>(map: A) -> Result<Field<Self>, A::Error> {
        let mut object = Self::default();
        object.fill(map)?;
        Ok(Field::Is(object))
    }
}

/// Any value at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given;

impl<'a> Value<'a> for Given {
    fn read<D: Deserializer<'a>>(deserializer: D) -> Result<Field<Self>, D::Error> {
        Ok(Option::<IgnoredAny>::deserialize(deserializer)?.map_or(Field::Null, |_| Field::Is(Self)))
    }
}

/// An integer of any length; `None` beyond 64 bits, which is out of every range.
pub(super) type Integer = Option<i64>;

impl Value<'_> for Integer {
    fn from_integer(number: Self) -> Field<Self> {
        Field::Is(number)
    }

    // The parser reads -0 and integers beyond 64 bits as floats too.
    fn from_float(number: f64) -> Option<Field<Self>> {
        (!may_be_integer(number)).then_some(Field::Wrong)
    }
}

/// Whether digits alone may stand where the parser found this float.
pub(super) fn may_be_integer(number: f64) -> bool {
    number.abs() >= 9_223_372_036_854_775_808.0 || number == 0.0 && number.is_sign_negative()
}

impl Value<'_> for bool {
    fn from_bool(value: Self) -> Field<Self> {
        Field::Is(value)
    }
}

/// The next element of an array, read as leniently as a member.
pub(super) fn next_element<'a, T: Value<'a>, A: SeqAccess<'a>>(array: &mut A) -> Result<Option<Field<T>>, A::Error> {
    array.next_element_seed(Seed(PhantomData))
}

/// Declares a JSON object of which only the named members are read, in any order; the others are
/// skipped.
macro_rules! object {
    (
        $(#[$doc:meta])*
        struct $name:ident<$life:lifetime> { $($key:literal => $field:ident: $type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<$life> {
            $(pub(super) $field: $crate::decode::field::Field<$type>,)*
            pub(super) _life: std::marker::PhantomData<&$life ()>,
        }

        impl<$life> $crate::decode::field::Object<$life> for $name<$life> {
            fn fill<A: serde::de::MapAccess<$life>>(&mut self, mut map: A) -> Result<(), A::Error> {
                #[expect(non_camel_case_types, reason = "named as the members")]
                enum Key {
                    $($field,)*
                    Other,
                }

                impl<'de> serde::Deserialize<'de> for Key {
                    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                        deserializer.deserialize_identifier(KeyVisitor)
                    }
                }

                struct KeyVisitor;

                impl serde::de::Visitor<'_> for KeyVisitor {
                    type Value = Key;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a key")
                    }

                    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Key, E> {
                        Ok(match key {
                            $($key => Key::$field,)*
                            _ => Key::Other,
                        })
                    }
                }

                while let Some(key) = map.next_key()? {
                    match key {
                        $(Key::$field => self.$field.read(&mut map)?,)*
                        Key::Other => { map.next_value::<serde::de::IgnoredAny>()?; }
                    }
                }
                Ok(())
            }
        }

        impl<$life> $crate::decode::field::Value<$life> for $name<$life> {
            fn from_object<A: serde::de::MapAccess<$life>>(map: A) -> Result<$crate::decode::field::Field<Self>, A::Error> {
                let mut object = Self::default();
                $crate::decode::field::Object::fill(&mut object, map)?;
                Ok($crate::decode::field::Field::Is(object))
            }
        }
    };
}
pub(super) use object;
