/** What the API needs to know about single tokens. All experts share the tokens of the public model. */
export interface Vocabulary {
  /** Name of a token in `tokenizer.json`; undefined for an id that it does not have. */
  nameOf(id: number): string | undefined
  /** The bytes that a token adds to a text, which may be part of a character; none for special tokens. */
  bytesOf(id: number): Uint8Array
  decode(ids: Iterable<number>): string
  /** The text of one token after the other; a character split over several tokens appears with the last one. */
  decodeStream(): {
    push(id: number): string
    /** The text of the last tokens if they end within a character. */
    flush(): string
  }
}
