/** What every benchmark returns. */
export interface Bench {
  /** Members of the JSON line, beside machine and commit. */
  readonly json: Readonly<Record<string, unknown>>
  /** The same for people. */
  readonly lines: readonly string[]
}
