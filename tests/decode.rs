//! Decode, from bytes to events and refusals: every refusal with its exact bytes, which updates hold
//! which facts, what the facts say, and agreement with the conformance kit where that is at hand.

#[path = "decode/body.rs"]
mod body;
#[path = "decode/facts.rs"]
mod facts;
#[path = "decode/invalid_envelope.rs"]
mod invalid_envelope;
#[path = "decode/invalid_event.rs"]
mod invalid_event;
#[path = "decode/malformed.rs"]
mod malformed;
#[path = "decode/mutation.rs"]
mod mutation;
#[path = "decode/oracle.rs"]
mod oracle;
#[path = "decode/precedence.rs"]
mod precedence;
#[path = "decode/properties.rs"]
mod properties;
#[path = "decode/values.rs"]
mod values;
