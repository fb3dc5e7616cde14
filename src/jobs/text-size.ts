/** How much text makes a score meaningful. */

/** Bits per byte of a shorter text mean nothing. */
export const LEAST_BYTES = 1000
/** With this many bytes of text, the second decimal of bits per byte is reliable. */
export const SENSIBLE_BYTES = 16_000
