/** Packages of a tiny expert, malformed files, and random changes of valid bytes. */

import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { concatBytes, type Digest, utf8 } from '../../src/lib/bytes.ts'
import { FlexMeshError } from '../../src/lib/errors.ts'
import type { FloatDtype } from '../../src/lib/float-formats.ts'
import { mulberry32 } from '../../src/lib/random.ts'
import type { Param } from '../../src/model/weights.ts'
import type { Manifest } from '../../src/packaging/manifest.ts'
import type { DpStatement } from '../../src/packaging/manifest-privacy.ts'
import { type ExpertShape, expertTensorNames } from '../../src/packaging/tensor-names.ts'
import { packTensors } from './package-bytes.ts'

/** The code of the FlexMeshError that `action` throws, or `accept`. Rethrows any other error. */
export function codeOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (error instanceof FlexMeshError) return error.code
    throw error
  }
  return 'accept'
}

export async function codeOfAsync(action: () => Promise<unknown>): Promise<string> {
  try {
    await action()
  } catch (error) {
    if (error instanceof FlexMeshError) return error.code
    throw error
  }
  return 'accept'
}

/** Random bytes. */
export function content(length: number, seed = 1): Uint8Array {
  const random = mulberry32(seed)
  const words = Uint32Array.from({ length: Math.ceil(length / 4) }, () => random() * 2 ** 32)
  return new Uint8Array(words.buffer, 0, length)
}

/** A safetensors file with any header and data. */
export function rawSafetensors(header: string | Uint8Array, data: Uint8Array): Uint8Array {
  const text = typeof header === 'string' ? utf8(header) : header
  const length = new Uint8Array(8)
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true)
  return concatBytes(length, text, data)
}

/** Copies of `valid` with one to three random changes: flipped bits, replaced, removed or repeated bytes. */
export function* mutate(valid: Uint8Array, count: number, seed: number): Generator<Uint8Array> {
  const random = mulberry32(seed)
  const below = (max: number) => Math.floor(random() * max)
  const telling = utf8('{}[]",:\\0129 -.eu')
  for (let made = 0; made < count; made++) {
    let bytes: Uint8Array = valid.slice()
    for (let edits = 1 + below(3); edits > 0; edits--) {
      const at = below(bytes.length)
      const kind = below(5)
      if (kind === 0) bytes[at] = (bytes[at] as number) ^ (1 << below(8))
      else if (kind === 1) bytes[at] = telling[below(telling.length)] as number
      else if (kind === 2) bytes[at] = below(256)
      else if (kind === 3) bytes = concatBytes(bytes.subarray(0, at), bytes.subarray(at + 1 + below(8)))
      else bytes = concatBytes(bytes.subarray(0, at), bytes.subarray(Math.max(0, at - below(8))))
      if (bytes.length === 0) break
    }
    yield bytes
  }
}

export const TINY_EXPERT: ExpertShape = {
  layers: 2,
  hidden_size: 4,
  intermediate_size: 6,
  bias: true,
  statisticsTokens: 0,
}

/** Random tensors of an expert. */
export function tinyTensors(shape: ExpertShape = TINY_EXPERT, seed = 1): Map<string, Param> {
  const random = mulberry32(seed)
  const tensors = new Map<string, Param>()
  for (const [name, { shape: dimensions }] of expertTensorNames(shape)) {
    const size = dimensions.reduce((product, dimension) => product * dimension, 1)
    tensors.set(name, { shape: dimensions, data: Float32Array.from({ length: size }, () => random() - 0.5) })
  }
  return tensors
}

const digestOfByte = (hex: string): Digest => `sha256:${hex.repeat(32)}`

/** A valid manifest of a tiny expert, with any fields replaced. */
export function tinyManifest(
  publisher: string,
  overrides: Partial<Manifest> = {},
  dtype: FloatDtype = 'BF16',
): Manifest {
  const { file, shape } = packTensors(tinyTensors(), dtype)
  return {
    consortium: digestOfByte('c0'),
    rosterVersion: 1,
    publisher,
    seq: 1,
    prev: NO_STATEMENT,
    issuedAt: 1_800_000_000,
    expiresAt: 1_800_000_000 + 90 * 86_400,
    publicModel: { name: 'tiny', digest: digestOfByte('a1'), tokenizerDigest: digestOfByte('b2') },
    expert: { name: 'case-law', dtype, ...shape, statisticsDocuments: 0, statisticsEpsilonMilli: 0 },
    files: [{ role: 'expert', ...file }],
    training: { documents: 120, tokens: 48_000, steps: 300, replayShareMilli: 500 },
    eval: [
      { set: 'own', metric: 'bits-per-byte', before: 2_100_000, after: 1_650_000 },
      { set: 'public', metric: 'bits-per-byte', before: 1_900_000, after: 1_905_000 },
    ],
    license: 'CC-BY-4.0',
    domain: 'court decisions',
    ext: {},
    ...overrides,
  }
}

/** 200 steps on samples of 64 of 2000 documents, for epsilon 2. */
export const DP_STATEMENT: DpStatement = {
  mechanism: 'dp-sgd',
  attestation: 'self',
  unit: 'document',
  relation: 'add-remove',
  sampler: 'poisson-truncated',
  epsilonMicro: 1_999_999,
  deltaInverse: 20_000,
  truncationDeltaInverse: 0,
  noiseMicro: 1_238_525,
  clipMicro: 1_000_000,
  sampleRateNano: 32_000_000,
  steps: 200,
  units: 2000,
  capacity: 128,
  windowsPerUnit: 2,
  statisticsNoiseMicro: 0,
  accountant: 'rdp-integer-1',
  tunedRuns: 1,
}

/** A valid manifest of a tiny expert whose training had a guarantee. */
export function privateManifest(publisher: string): Manifest {
  const manifest = tinyManifest(publisher)
  return {
    ...manifest,
    training: { ...manifest.training, documents: 0, tokens: 0 },
    eval: manifest.eval.filter(({ set }) => set === 'public'),
    privacy: DP_STATEMENT,
  }
}
