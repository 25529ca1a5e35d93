use std::{ops::Deref, slice};

/// Values of which there is mostly one, which then needs no list: the event holds it, and to read it no other memory is touched.
#[derive(Debug, Clone)]
pub enum Few<T> {
    /// A single one.
    One(T),
    /// Any number.
    Many(Vec<T>),
}

impl<T> Few<T> {
    pub(super) fn map<U>(self, mut change: impl FnMut(T) -> U) -> Few<U> {
        match self {
            Self::One(value) => Few::One(change(value)),
            Self::Many(values) => Few::Many(values.into_iter().map(change).collect()),
        }
    }

    /// All of them in a list.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(value) => slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl<'f, T> IntoIterator for &'f Few<T> {
    type Item = &'f T;
    type IntoIter = slice::Iter<'f, T>;

    fn into_iter(self) -> slice::Iter<'f, T> {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Few<T> {}
