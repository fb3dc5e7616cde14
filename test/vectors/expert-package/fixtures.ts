/** Keys, digests and small packages that several sections' vectors are made from. */
import { readSafetensors, type TensorEntry, writeSafetensors } from '../../../src/checkpoint/safetensors.ts'
import { createIdentity } from '../../../src/identity/keys.ts'
import { concatBytes, type Digest, digestOf, toHex } from '../../../src/lib/bytes.ts'
import type { ExpertShape } from '../../../src/packaging/tensor-names.ts'
import { packTensors } from '../../support/package-bytes.ts'
import { TINY_EXPERT, tinyTensors } from '../../support/packages.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'

export const publisher = createIdentity(new Uint8Array(32).fill(0x11))
export const stranger = createIdentity(new Uint8Array(32).fill(0x22))
/** Number of tokens in the public model's vocabulary. */
export const VOCABULARY = 8

export function digest(byte: number): Digest {
  return digestOf(Uint8Array.of(byte))
}

/** The BF16 file that a publisher packs for an expert of this shape. */
export function packedFile(shape: ExpertShape): Uint8Array {
  return concatBytes(...packTensors(tinyTensors(shape), 'BF16').parts)
}

/** Returns a function that packs the same expert with one tensor added or replaced, and one removed. */
export function fileEditor(shape: ExpertShape): (change?: TensorEntry, remove?: string) => Uint8Array {
  const { tensors, metadata } = readSafetensors(packedFile(shape))
  return (change, remove) => {
    const changed = new Map(tensors)
    if (change !== undefined) changed.set(change.name, change)
    if (remove !== undefined) changed.delete(remove)
    return concatBytes(...writeSafetensors(changed.values(), metadata))
  }
}

/** A tensor of zeros. */
export function zeros(
  name: string,
  dtype: 'F32' | 'F16' | 'BF16' | 'I32',
  ...shape: readonly number[]
): TensorEntry {
  const elementBytes = dtype === 'F32' || dtype === 'I32' ? 4 : 2
  const size = shape.reduce((product, dimension) => product * dimension, elementBytes)
  return { name, dtype, shape, data: new Uint8Array(size) }
}

/** Vectors of package files; each case ends with its file and what the manifest's `expert` says besides TINY_EXPERT. */
export function packageVectors(
  section: string,
  cases: readonly (readonly [...Case, Uint8Array, Partial<ExpertShape>])[],
): Vector[] {
  return vectorsOf('package', `expert-package ${section}`, cases, (bytes, change) => ({
    decoder: 'package',
    expert: { name: 'case-law', dtype: 'BF16', ...TINY_EXPERT, ...change },
    hex: toHex(bytes),
  }))
}
