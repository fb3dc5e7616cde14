/** Test vectors of section Files and chunks. */
import { concatBytes, toHex } from '../../../src/lib/bytes.ts'
import { limit } from '../../../src/lib/limits.ts'
import { fileRefOf } from '../../support/file-ref.ts'
import { type Case, type Vector, vectorsOf } from '../vector.ts'

export function chunkVectors(): Vector[] {
  const size = 2 * limit('chunkBytes') + 1
  const { ref, chunkHashes } = fileRefOf(new Uint8Array(size))
  const swapped = concatBytes(chunkHashes.subarray(64), chunkHashes.subarray(0, 64))
  const cases: [...Case, Uint8Array][] = [
    ['hashes', 'accept', '2 MiB and one byte of zeros are three chunks', chunkHashes],
    ['hashes-reordered', 'wrong-digest', 'chunk hashes in another order', swapped],
    [
      'hashes-short',
      'bad-field',
      'a number of hashes other than the number of chunks',
      chunkHashes.subarray(32),
    ],
    [
      'hashes-long',
      'bad-field',
      'a number of hashes other than the number of chunks',
      concatBytes(chunkHashes, new Uint8Array(32)),
    ],
  ]
  return vectorsOf('chunk', 'expert-package Files and chunks', cases, (hashes) => ({
    decoder: 'chunk-hashes',
    ref: { ...ref },
    hex: toHex(hashes),
  }))
}
