/** Package files in memory, for tests that read or change their bytes. */
import {
  fromFloat32,
  HUGGING_FACE_METADATA,
  readSafetensors,
  readSafetensorsHeader,
  toFloat32,
  writeSafetensors,
} from '../../src/checkpoint/safetensors.ts'
import type { FileRef } from '../../src/lib/file-ref.ts'
import type { FloatDtype } from '../../src/lib/float-formats.ts'
import type { Param, Params } from '../../src/model/weights.ts'
import { checkExpertLayout, type Described, shapeOf } from '../../src/packaging/package.ts'
import { type ExpertShape, expertTensorNames } from '../../src/packaging/tensor-names.ts'
import { fileRefOf } from './file-ref.ts'

export interface UnpackedTensor extends Param {
  /** Type in the file. */
  readonly dtype: FloatDtype
}

/** The tensors of a file that a manifest describes. @throws as `openPackage`. */
export function unpackExpert(bytes: Uint8Array, manifest: Described): Map<string, UnpackedTensor> {
  checkExpertLayout(readSafetensorsHeader(bytes, bytes.length), manifest)
  return unpackFile(bytes)
}

/** The tensors of a file. */
export function unpackFile(bytes: Uint8Array): Map<string, UnpackedTensor> {
  return new Map(
    Array.from(readSafetensors(bytes).tensors, ([name, entry]) => [
      name,
      { shape: entry.shape, dtype: entry.dtype as FloatDtype, data: toFloat32(entry) },
    ]),
  )
}

/** A package file in memory. */
export interface PackedExpert {
  /** The file, in consecutive parts. */
  readonly parts: Uint8Array[]
  readonly file: FileRef
  /** Hashes of all chunks of the file, 32 bytes each. */
  readonly chunkHashes: Uint8Array
  readonly shape: ExpertShape
}

/** The file that `packExpert` writes for tensors in memory; FFN tensors are rounded to `dtype`. */
export function packTensors(tensors: Params, dtype: FloatDtype): PackedExpert {
  const shape = shapeOf(tensors)
  const entries = Array.from(expertTensorNames(shape), ([name, { shape: dimensions, kind }]) => {
    const stored = kind === 'ffn' ? dtype : 'F32'
    const { data } = tensors.get(name) as Param
    return { name, dtype: stored, shape: dimensions, data: fromFloat32(data, stored) } as const
  })
  const parts = writeSafetensors(entries, HUGGING_FACE_METADATA)
  const { ref: file, chunkHashes } = fileRefOf(parts)
  return { parts, file, chunkHashes, shape }
}
