/** What a test vector is, and the outcome of running one. Knows nothing about any protocol. */
import { FlexMeshError } from '../../src/lib/errors.ts'

export interface Vector {
  readonly name: string
  readonly spec: string
  /** `accept`, or the code of the refusal. */
  readonly expect: string
  readonly input: Readonly<Record<string, unknown>>
  readonly comment: string
}

/** Where a decoder finds its input in memory: returns the same bytes, perhaps in another buffer. */
export type Place = (bytes: Uint8Array) => Uint8Array

/** The vectors of one protocol. */
export interface VectorSuite {
  /** Computes every vector from fixed seeds, by file name. */
  makeVectors(): Record<string, Vector>
  /**
   * Runs the decoder that a vector names on the vector's bytes, which `place` has placed.
   * @throws FlexMeshError for a refusal.
   */
  runVector(input: Readonly<Record<string, unknown>>, place: Place): unknown
}

/** `accept`, or the code of the refusal that `run` throws. Any other error is rethrown. */
export function outcomeOf(run: () => unknown): string {
  try {
    run()
    return 'accept'
  } catch (error) {
    if (error instanceof FlexMeshError) return error.code
    throw error
  }
}

export type Case = readonly [name: string, expect: string, comment: string]

/** Vectors named `PREFIX-NAME` for one section of a specification; `input` receives what follows the case's comment. */
export function vectorsOf<T extends unknown[]>(
  prefix: string,
  spec: string,
  cases: readonly (readonly [...Case, ...T])[],
  input: (...rest: T) => Record<string, unknown>,
): Vector[] {
  return cases.map(([name, expected, comment, ...rest]) => ({
    name: `${prefix}-${name}`,
    spec,
    expect: expected,
    input: input(...rest),
    comment,
  }))
}

export function byFileName(vectors: readonly Vector[]): Record<string, Vector> {
  return Object.fromEntries(vectors.map((vector) => [`${vector.name}.json`, vector]))
}
