/** What the inference benchmark asks of every server under test, ours and the peers'. */
export interface Run {
  /** Tokens chosen greedily. */
  readonly ids: readonly number[]
  /** From the request to the first new token. */
  readonly prefillMs: number
  /** Of one further token. */
  readonly decodeMs: number
}

export interface Server {
  /** Library and version, for people. */
  readonly name: string
  /** Which of its rounds counts. */
  readonly counts: 'median' | 'best'
  run(prompt: Int32Array, newTokens: number): Promise<Run>
  stop(): Promise<void>
}
