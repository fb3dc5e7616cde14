/** The result of every benchmark. */
export interface Bench {
  /** Members of the JSON line, besides machine and commit. */
  readonly json: Readonly<Record<string, unknown>>
  /** The same results as text for people. */
  readonly lines: readonly string[]
}
