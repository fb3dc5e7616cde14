/** Reads the tensors of a package file from its bytes, for tests that change them. */
import { readSafetensors, readSafetensorsHeader, toFloat32 } from '../../src/checkpoint/safetensors.ts'
import type { FloatDtype } from '../../src/lib/float-formats.ts'
import type { Param } from '../../src/model/weights.ts'
import { checkExpertLayout, type Described } from '../../src/packaging/package.ts'

export interface UnpackedTensor extends Param {
  /** Type in the file. */
  readonly dtype: FloatDtype
}

/** @throws as `openPackage`. */
export function unpackExpert(bytes: Uint8Array, manifest: Described): Map<string, UnpackedTensor> {
  checkExpertLayout(readSafetensorsHeader(bytes, bytes.length), manifest)
  return unpackFile(bytes)
}

/** Likewise, without a manifest. */
export function unpackFile(bytes: Uint8Array): Map<string, UnpackedTensor> {
  return new Map(
    Array.from(readSafetensors(bytes).tensors, ([name, entry]) => [
      name,
      { shape: entry.shape, dtype: entry.dtype as FloatDtype, data: toFloat32(entry) },
    ]),
  )
}
