/**
 * Changes of the logits of one answer before each of its tokens is chosen: the interface through which a request biases,
 * penalizes or forbids tokens. Does not know requests, tokenizers or sampling.
 */

/** Belongs to one answer, so it may keep state from token to token. */
export interface LogitProcessor {
  /**
   * Changes the logits (V) of the next token in place. Negative infinity forbids a token; at least one must remain.
   * Processors of a request run in their order, and every one sees the changes of those before it.
   */
  apply(logits: Float32Array): void
  /** Receives each chosen token, also one that ends the text. */
  observe(token: number): void
}
