/** What a test vector is, and the code that a decoder answers with. Knows no protocol. */
import { FlexMeshError } from '../../src/lib/errors.ts'

export interface Vector {
  readonly name: string
  readonly spec: string
  /** `accept`, or the code of the refusal. */
  readonly expect: string
  readonly input: Readonly<Record<string, unknown>>
  readonly comment: string
}

/** What one protocol's vector file exports. */
export interface VectorSuite {
  /** File name to vector. */
  makeVectors(): Record<string, Vector>
  /** Run the decoder that a vector names. @throws FlexMeshError for a refusal. */
  runVector(input: Readonly<Record<string, unknown>>): unknown
}

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
