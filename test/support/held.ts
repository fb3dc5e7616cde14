import '../../src/lib/node20.ts'

/** Holds an action until the test lets it go on. */
export interface Held {
  /** Resolves when the action has come to `pass`. */
  readonly reached: Promise<void>
  /** For the action: resolves after `release`. */
  readonly pass: () => Promise<void>
  readonly release: () => void
}

export function held(): Held {
  const arrival = Promise.withResolvers<void>()
  const opening = Promise.withResolvers<void>()
  return {
    reached: arrival.promise,
    pass: () => {
      arrival.resolve()
      return opening.promise
    },
    release: () => opening.resolve(),
  }
}
