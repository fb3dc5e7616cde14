/** The interface of every server under test, ours and the peers', in the inference benchmark. */
export interface Run {
  /** Tokens, chosen greedily. */
  readonly ids: readonly number[]
  /** Time from the request to the first new token. */
  readonly prefillMs: number
  /** Time for each further token. */
  readonly decodeMs: number
}

export interface Server {
  /** Library and version, to print. */
  readonly name: string
  /** How its rounds are reduced to one time. */
  readonly counts: 'median' | 'best'
  run(prompt: Int32Array, newTokens: number): Promise<Run>
  stop(): Promise<void>
}
