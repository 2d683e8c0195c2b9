import type { Field } from "../models/index.js";

/** `make`, with what it made for a field and a key kept for as long as both live: for compiled programs. */
export function perField<Key extends object, Made>(
  make: (field: Field, key: Key) => Made,
): (field: Field, key: Key) => Made {
  const kept = new WeakMap<Field, WeakMap<Key, Made>>();
  return (field, key) => {
    let ofField = kept.get(field);
    if (ofField === undefined) kept.set(field, (ofField = new WeakMap()));
    let made = ofField.get(key);
    if (made === undefined) ofField.set(key, (made = make(field, key)));
    return made;
  };
}
